//! What IPVS answers to its socket options, out of a director. The checks come in the kernel's order, so the errors do.

use lvs_director::director::{Director, Error, Wanted};
use lvs_director::rules::{self, Role, ServiceEntry};
use nix::errno::Errno;

use crate::abi::{self, Destination, Destinations, Get, Info, Key, Plain, Service, Services, Set, Timeouts};
use crate::convert;

/// Everything an entry of this ABI has.
const EVERYTHING: Wanted = Wanted { destinations: true, statistics: true, rates: true };

/// Answers `getsockopt`: what goes to the front of the buffer. The buffer is `length` bytes long, and begins with
/// `argument`: all of it, or [`Get::least`] bytes.
pub fn get(director: &dyn Director, what: Get, length: usize, argument: &[u8]) -> Result<Vec<u8>, Errno> {
    if length < what.least() {
        return Err(Errno::EINVAL);
    }
    match what {
        Get::Version => {
            let sentence = rules::header(director.table_size().map_err(number)?);
            Ok([sentence.trim_end().as_bytes(), &[0]].concat())
        }
        Get::Info => {
            let services = director.services(Wanted::default()).map_err(number)?;
            let services = services.iter().filter_map(convert::service_entry).count() as u32;
            let size = director.table_size().map_err(number)?;
            Ok(Info { version: abi::VERSION, size, services }.bytes().to_vec())
        }
        Get::Services => {
            let asked: Services = read(argument)?;
            room::<abi::ServiceEntry>(size_of::<Services>(), asked.count, length)?;
            let mut entries = director.services(EVERYTHING).map_err(number)?;
            rules::hash_order(&mut entries);
            Ok(list(&asked, asked.count, entries.iter().filter_map(convert::service_entry)))
        }
        Get::Service => {
            let asked: abi::ServiceEntry = read(argument)?;
            let entry = find(director, &asked.service.key)?;
            Ok(convert::service_entry(&entry).ok_or(Errno::ESRCH)?.bytes().to_vec())
        }
        Get::Destinations => {
            let asked: Destinations = read(argument)?;
            room::<abi::DestinationEntry>(size_of::<Destinations>(), asked.count, length)?;
            let entry = find(director, &asked.key)?;
            Ok(list(&asked, asked.count, entry.destinations.iter().filter_map(convert::destination_entry)))
        }
        Get::Timeouts => {
            let t = director.timeouts().map_err(number)?;
            let seconds = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
            Ok(Timeouts { tcp: seconds(t.tcp), tcp_fin: seconds(t.tcp_fin), udp: seconds(t.udp) }.bytes().to_vec())
        }
        Get::Daemons => {
            let daemons = director.daemons().map_err(number)?;
            // A state of 0 says that there is none.
            let of = |role| daemons.iter().find(|daemon| daemon.role == role).map(convert::daemon).unwrap_or_default();
            Ok(Role::ALL.map(of).iter().flat_map(|daemon| daemon.bytes().to_vec()).collect())
        }
    }
}

/// Answers `setsockopt`.
pub fn set(director: &mut dyn Director, what: Set, argument: &[u8]) -> Result<(), Errno> {
    if argument.len() != what.length() {
        return Err(Errno::EINVAL);
    }
    match what {
        Set::StartDaemon => return director.start_daemon(&convert::started(&read(argument)?)?).map_err(number),
        Set::StopDaemon => return director.stop_daemon(convert::role(&read(argument)?)?).map_err(number),
        Set::Flush => return director.flush().map_err(number),
        Set::Timeouts => {
            return director.set_timeouts(convert::timeouts(&read(argument)?)?).map_err(number);
        }
        _ => {}
    }
    let service: Service = read(argument)?;
    if what == Set::Zero && service.key.fwmark == 0 && service.key.address == [0; 4] && service.key.port == [0; 2] {
        return director.zero(None).map_err(number);
    }
    let scheduler = match what {
        Set::Add | Set::Edit => convert::name(&service.scheduler)?,
        _ => String::new(),
    };
    let key = convert::service_key(&service.key)?;
    let there = match director.service(&key, Wanted::default()) {
        Ok(entry) => Some(entry.service),
        Err(Error::NoService) => None,
        Err(error) => return Err(number(error)),
    };
    match (what, &there) {
        (Set::Add, Some(_)) => return Err(Errno::EEXIST),
        (Set::Add, None) | (_, Some(_)) => {}
        (_, None) => return Err(Errno::ESRCH),
    }
    let destination = || read::<Destination>(&argument[size_of::<Service>()..]);
    match what {
        Set::Add => director.add_service(&convert::service(key, &service, &scheduler)?),
        Set::Edit => {
            let service = convert::service(key, &service, &scheduler)?;
            let own = there.unwrap_or(service).own;
            director.edit_service(&rules::Service { own, ..service })
        }
        Set::Delete => director.delete_service(&key),
        Set::Zero => director.zero(Some(&key)),
        Set::AddDestination => director.add_destination(&key, &convert::destination(&destination()?)?),
        Set::EditDestination => director.edit_destination(&key, &convert::destination(&destination()?)?),
        Set::DeleteDestination => director.delete_destination(&key, &convert::destination_key(&destination()?)),
        Set::Flush | Set::Timeouts | Set::StartDaemon | Set::StopDaemon => Err(Error::Invalid),
    }
    .map_err(number)
}

/// The structure at the front of an argument.
fn read<T: Plain>(argument: &[u8]) -> Result<T, Errno> {
    T::read(argument).ok_or(Errno::EINVAL)
}

/// Whether a buffer is as long as its head of so many bytes and so many entries are.
fn room<Entry>(head: usize, count: u32, length: usize) -> Result<(), Errno> {
    let entries = size_of::<Entry>().checked_mul(count as usize).and_then(|entries| entries.checked_add(head));
    if entries == Some(length) { Ok(()) } else { Err(Errno::EINVAL) }
}

/// A head as it was asked with, and as many entries as there is room for.
fn list<Entry: Plain>(head: &impl Plain, count: u32, entries: impl Iterator<Item = Entry>) -> Vec<u8> {
    let mut answer = head.bytes().to_vec();
    entries.take(count as usize).for_each(|entry| answer.extend_from_slice(entry.bytes()));
    answer
}

/// The service that is asked for. One of a protocol that there is not is not there.
fn find(director: &dyn Director, key: &Key) -> Result<ServiceEntry, Errno> {
    let key = convert::service_key(key).map_err(|_| Errno::ESRCH)?;
    director.service(&key, EVERYTHING).map_err(number)
}

/// The kernel's number for an error. One that it has not is told as a broken device would be.
fn number(error: Error) -> Errno {
    error.number().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests;
