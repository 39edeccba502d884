//! The [`Director`] trait: the operations of a director and the errors they have in common.

use std::net::IpAddr;

use lvs_common::abi::Sysctls;

use super::error::Error;
use crate::rules::{
    AccessChange, AccessEntry, AccessKind, Connection, Daemon, Destination, DestinationKey, LocalEntry, Mark, Role,
    Rule, SYSCTLS, Service, ServiceEntry, ServiceKey, Timeouts,
};

/// What a director answers.
pub type Result<T> = std::result::Result<T, Error>;

/// What a command does with a director.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It reads, beside others that read.
    Read,
    /// It changes something, alone.
    Change,
}

/// How much a director is going to hold: where it has no size yet, it takes one that suits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Virtual services.
    pub services: u32,
    /// Destinations of all services together.
    pub destinations: u32,
}

/// Which parts of an entry a listing is going to show; the others may be left empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The destinations with their numbers of connections.
    pub destinations: bool,
    /// Counters of services and destinations.
    pub statistics: bool,
    /// Rates of services and destinations.
    pub rates: bool,
}

/// A director: the table of virtual services and their destinations, and what became of it.
///
/// The operations are the kernel's, and so are the errors: implementations apply [`super::check`] after they
/// looked up what must exist and before they look for what must not.
pub trait Director {
    /// Adds a service. [`Error::Exists`] if there is one of its key.
    fn add_service(&mut self, service: &Service) -> Result<()>;

    /// Replaces everything but the key and the destinations. [`Error::NoService`] if there is none.
    fn edit_service(&mut self, service: &Service) -> Result<()>;

    /// Deletes a service with its destinations. [`Error::NoService`] if there is none.
    fn delete_service(&mut self, key: &ServiceKey) -> Result<()>;

    /// Deletes every service.
    fn flush(&mut self) -> Result<()>;

    /// Sets counters and rates of one service and its destinations, or of everything, to zero.
    /// [`Error::NoService`] if there is no such service.
    fn zero(&mut self, key: Option<&ServiceKey>) -> Result<()>;

    /// Adds a destination. [`Error::NoService`], or [`Error::Exists`] if the service has it already.
    fn add_destination(&mut self, service: &ServiceKey, destination: &Destination) -> Result<()>;

    /// Replaces everything but the key. [`Error::NoService`], or [`Error::NotFound`] if the service has it not.
    fn edit_destination(&mut self, service: &ServiceKey, destination: &Destination) -> Result<()>;

    /// Deletes a destination. [`Error::NoService`], or [`Error::NotFound`] if the service has it not.
    fn delete_destination(&mut self, service: &ServiceKey, destination: &DestinationKey) -> Result<()>;

    /// Every service, oldest first, each with its destinations, newest first.
    fn services(&self, wanted: Wanted) -> Result<Vec<ServiceEntry>>;

    /// One service. [`Error::NoService`] if there is none.
    fn service(&self, key: &ServiceKey, wanted: Wanted) -> Result<ServiceEntry>;

    /// The timeouts in force.
    fn timeouts(&self) -> Result<Timeouts>;

    /// Sets the timeouts that are not 0.
    fn set_timeouts(&mut self, timeouts: Timeouts) -> Result<()>;

    /// The settings in force.
    fn sysctls(&self) -> Result<Sysctls>;

    /// Sets the settings.
    fn set_sysctls(&mut self, sysctls: &Sysctls) -> Result<()>;

    /// The classification rules; a data plane has them in the order in which packets are compared with them.
    fn marks(&self) -> Result<Vec<Mark>>;

    /// Replaces the classification rules, whatever their order. It is a change like those of services: a group has it too.
    fn set_marks(&mut self, marks: &[Mark]) -> Result<()>;

    /// The local addresses of a service, or the default pool. [`Error::NoService`] if there is no such service.
    fn locals(&self, service: Option<&ServiceKey>) -> Result<Vec<LocalEntry>>;

    /// Replaces the local addresses of a service, or the default pool; one without any has the default pool's. It is a
    /// change like those of services: a group has it too. [`Error::NoService`] if there is no such service.
    fn set_locals(&mut self, service: Option<&ServiceKey>, addresses: &[IpAddr]) -> Result<()>;

    /// A list of clients of a service, or that for all services, in the order of its prefixes. [`Error::NoService`] if there is no
    /// such service.
    fn access(&self, kind: AccessKind, service: Option<&ServiceKey>) -> Result<Vec<AccessEntry>>;

    /// Changes a list of clients. Packets see all of the change or nothing of it, but for entries that are added to a list or
    /// taken from it outside a group: they see each of these by itself. Connections of clients who may not come in any more
    /// end. [`Error::NoService`] if there is no such service; entries that are to go must be there.
    fn edit_access(&mut self, kind: AccessKind, service: Option<&ServiceKey>, change: &AccessChange) -> Result<()>;

    /// Starts a daemon of connection synchronisation. [`Error::Os`] with `ENODEV` if there is no such device, [`Error::Exists`] if one
    /// of its role runs.
    fn start_daemon(&mut self, daemon: &Daemon) -> Result<()>;

    /// Ends the daemon of a role. [`Error::NoService`] if none runs.
    fn stop_daemon(&mut self, role: Role) -> Result<()>;

    /// The daemons that run, the master first.
    fn daemons(&self) -> Result<Vec<Daemon>>;

    /// Shows every connection and template to `visit`, in the table's order.
    fn connections(&self, visit: &mut dyn FnMut(&Connection)) -> Result<()>;

    /// Lets other commands go on, where this one kept them waiting. What is asked afterwards may be mixed with their changes, but for
    /// [`Director::services`].
    fn unlock(&mut self) {}

    /// Number of buckets of the connection table, for the first line of a listing.
    fn table_size(&self) -> Result<u32>;

    /// Begins a group of changes of services, destinations and marks: until [`Director::commit`] packets do not see them, though
    /// every later call of this director does. An error of one undoes none.
    fn begin(&mut self) -> Result<()>;

    /// Makes all changes since [`Director::begin`] visible to packets, at once. An error is as good as [`Director::abort`].
    fn commit(&mut self) -> Result<()>;

    /// Forgets all changes since [`Director::begin`].
    fn abort(&mut self) -> Result<()>;
}

/// Everything a director is configured with, each service followed by its destinations in the order in which adding them
/// makes the same list again.
pub fn rules(director: &dyn Director) -> Result<Vec<Rule>> {
    let mut rules = vec![Rule::Timeouts(director.timeouts()?)];
    let sysctls = director.sysctls()?;
    rules.extend(SYSCTLS.iter().map(|sysctl| Rule::Sysctl(sysctl.name, sysctl.configured(&sysctls))));
    rules.extend(director.marks()?.into_iter().map(Rule::Mark));
    let pool = |service: Option<ServiceKey>| -> Result<Option<Rule>> {
        let addresses: Vec<IpAddr> = director.locals(service.as_ref())?.iter().map(|local| local.address).collect();
        Ok((!addresses.is_empty()).then_some(Rule::Locals(service, addresses)))
    };
    let listed = |service: Option<ServiceKey>| -> Result<Vec<Rule>> {
        let mut rules = Vec::new();
        for kind in AccessKind::ALL {
            let entries = director.access(kind, service.as_ref())?;
            rules.extend(entries.into_iter().map(|AccessEntry { rule, .. }| Rule::Access(kind, service, rule)));
        }
        Ok(rules)
    };
    rules.extend(pool(None)?);
    rules.extend(listed(None)?);
    for entry in director.services(Wanted { destinations: true, ..Wanted::default() })? {
        let key = entry.service.key;
        rules.push(Rule::Service(entry.service));
        rules.extend(pool(Some(key))?);
        rules.extend(listed(Some(key))?);
        rules.extend(entry.destinations.iter().rev().map(|listed| Rule::Destination(key, listed.destination)));
    }
    Ok(rules)
}
