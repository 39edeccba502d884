//! The changes that commands ask a director for.

use std::net::IpAddr;

use crate::grammar::{Command, Named};
use lvs_common::abi::OwnOptions;
use lvs_director::director::{Director, Error, Operation, Result, Wanted};
use lvs_director::rules::{PersistenceEngine, Service, ServiceKey, scheduler_by_name};

/// Makes the change that a command asks for: which operation it was, and what came of it. `None` if the command asks for
/// no change.
pub fn make(director: &mut dyn Director, command: Command) -> Option<(Operation, Result<()>)> {
    Some(match command {
        Command::AddService(named) => {
            let own = named.own;
            let service = resolve(director, named, Error::Exists)
                .map(|service| Service { own: own.over(OwnOptions::default()), ..service });
            (Operation::AddService, service.and_then(|service| director.add_service(&service)))
        }
        Command::EditService(named) => {
            let own = named.own;
            let service = resolve(director, named, Error::NotFound).and_then(|service| {
                let before = director.service(&service.key, Wanted::default())?.service.own;
                Ok(Service { own: own.over(before), ..service })
            });
            (Operation::EditService, service.and_then(|service| director.edit_service(&service)))
        }
        Command::DeleteService(key) => (Operation::DeleteService, director.delete_service(&key)),
        Command::Flush => (Operation::Flush, director.flush()),
        Command::AddDestination(service, destination) => {
            (Operation::AddDestination, director.add_destination(&service, &destination))
        }
        Command::EditDestination(service, destination) => {
            (Operation::EditDestination, director.edit_destination(&service, &destination))
        }
        Command::DeleteDestination(service, key) => {
            (Operation::DeleteDestination, director.delete_destination(&service, &key))
        }
        Command::AddLocal(service, address) => (Operation::AddLocal, add_local(director, service.as_ref(), address)),
        Command::DeleteLocal(service, address) => {
            (Operation::DeleteLocal, delete_local(director, service.as_ref(), address))
        }
        Command::SetTimeouts(timeouts) => (Operation::Timeouts, director.set_timeouts(timeouts)),
        Command::StartDaemon(daemon) => (Operation::StartDaemon, director.start_daemon(&daemon)),
        Command::StopDaemon(role) => (Operation::StopDaemon, director.stop_daemon(role)),
        Command::Zero(key) => (Operation::Zero, director.zero(key.as_ref())),
        _ => return None,
    })
}

/// The local addresses of a pool.
fn pool(director: &dyn Director, service: Option<&ServiceKey>) -> Result<Vec<IpAddr>> {
    Ok(director.locals(service)?.into_iter().map(|local| local.address).collect())
}

fn add_local(director: &mut dyn Director, service: Option<&ServiceKey>, address: IpAddr) -> Result<()> {
    let mut addresses = pool(director, service)?;
    if addresses.contains(&address) {
        return Err(Error::Exists);
    }
    addresses.push(address);
    director.set_locals(service, &addresses)
}

fn delete_local(director: &mut dyn Director, service: Option<&ServiceKey>, address: IpAddr) -> Result<()> {
    let mut addresses = pool(director, service)?;
    let at = addresses.iter().position(|other| *other == address).ok_or(Error::NotFound)?;
    addresses.remove(at);
    director.set_locals(service, &addresses)
}

/// The service with its scheduler and engine. The kernel looks for the service before it looks for these, so if there is
/// none of a name, the error depends on whether there is the service; `there` is the error if so.
fn resolve(director: &dyn Director, named: Named, there: Error) -> Result<Service> {
    let engine = PersistenceEngine::by_name(&named.engine);
    match scheduler_by_name(&named.scheduler) {
        Some(scheduler) if engine.is_some() || named.engine.is_empty() => {
            Ok(Service { scheduler, engine, ..named.service })
        }
        _ => match director.service(&named.service.key, Wanted::default()) {
            Ok(_) => Err(there),
            Err(Error::NoService) if there == Error::Exists => Err(Error::NotFound),
            Err(error) => Err(error),
        },
    }
}
