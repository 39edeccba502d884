//! A director that balances nothing: the kernel's table in memory.

use std::collections::HashMap;
use std::net::IpAddr;

use lvs_common::abi::Sysctls;

use super::check;
use super::contract::{Director, Result, Wanted};
use super::error::Error;
use crate::rules::{
    AccessChange, AccessEntry, AccessKind, AccessList, AccessRule, Connection, Daemon, Destination, DestinationEntry,
    DestinationKey, LocalEntry, Mark, Rates, Role, Service, ServiceEntry, ServiceKey, Statistics, Timeouts,
};

/// A director in memory, for tests and for rules that are only looked at. Counters, rates and connections are what
/// the test puts there.
#[derive(Clone, Debug)]
pub struct MemoryDirector {
    /// The services, oldest first, each with its destinations, newest first.
    pub entries: Vec<ServiceEntry>,
    /// Rows of the connection table.
    pub connections: Vec<Connection>,
    timeouts: Timeouts,
    sysctls: Sysctls,
    marks: Vec<Mark>,
    /// Local addresses of services, and of the default pool.
    locals: HashMap<Option<ServiceKey>, Vec<IpAddr>>,
    /// Lists of clients of services, and of all services.
    access: HashMap<(AccessKind, Option<ServiceKey>), AccessList>,
    /// The daemons that were started.
    daemons: Vec<Daemon>,
    /// As it was when a group of changes was begun.
    before: Option<Box<MemoryDirector>>,
    /// Where in `entries` a service is.
    index: HashMap<ServiceKey, usize>,
}

impl Default for MemoryDirector {
    fn default() -> Self {
        MemoryDirector {
            entries: Vec::new(),
            connections: Vec::new(),
            timeouts: Timeouts { tcp: 900, tcp_fin: 120, udp: 300 },
            sysctls: Sysctls::default(),
            marks: Vec::new(),
            locals: HashMap::new(),
            access: HashMap::new(),
            daemons: Vec::new(),
            before: None,
            index: HashMap::new(),
        }
    }
}

impl MemoryDirector {
    fn position(&self, key: &ServiceKey) -> Result<usize> {
        self.index.get(key).copied().ok_or(Error::NoService)
    }

    fn destinations(&mut self, key: &ServiceKey) -> Result<&mut Vec<DestinationEntry>> {
        let position = self.position(key)?;
        Ok(&mut self.entries[position].destinations)
    }
}

/// Where among `destinations` one is.
fn find(destinations: &[DestinationEntry], key: &DestinationKey) -> Option<usize> {
    destinations.iter().position(|entry| entry.destination.key == *key)
}

/// Clears an entry's counters.
fn clear(entry: &mut ServiceEntry) {
    entry.statistics = Statistics::default();
    entry.rates = Rates::default();
    for destination in &mut entry.destinations {
        destination.statistics = Statistics::default();
        destination.rates = Rates::default();
    }
}

impl Director for MemoryDirector {
    fn add_service(&mut self, service: &Service) -> Result<()> {
        if self.index.contains_key(&service.key) {
            return Err(Error::Exists);
        }
        check::service(service)?;
        self.index.insert(service.key, self.entries.len());
        self.entries.push(ServiceEntry {
            service: *service,
            statistics: Statistics::default(),
            rates: Rates::default(),
            destinations: Vec::new(),
        });
        Ok(())
    }

    fn edit_service(&mut self, service: &Service) -> Result<()> {
        let position = self.position(&service.key)?;
        check::service(service)?;
        self.entries[position].service = *service;
        Ok(())
    }

    fn delete_service(&mut self, key: &ServiceKey) -> Result<()> {
        let position = self.position(key)?;
        self.entries.remove(position);
        self.locals.remove(&Some(*key));
        self.access.retain(|(_, service), _| *service != Some(*key));
        self.index = self.entries.iter().enumerate().map(|(at, entry)| (entry.service.key, at)).collect();
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.entries.clear();
        self.index.clear();
        self.locals.retain(|service, _| service.is_none());
        self.access.retain(|(_, service), _| service.is_none());
        Ok(())
    }

    fn zero(&mut self, key: Option<&ServiceKey>) -> Result<()> {
        match key {
            None => self.entries.iter_mut().for_each(clear),
            Some(key) => {
                let position = self.position(key)?;
                clear(&mut self.entries[position]);
            }
        }
        Ok(())
    }

    fn add_destination(&mut self, service: &ServiceKey, destination: &Destination) -> Result<()> {
        let destinations = self.destinations(service)?;
        check::destination(service, destination)?;
        if find(destinations, &destination.key).is_some() {
            return Err(Error::Exists);
        }
        check::real_server_address(destination.key.address)?;
        let entry = DestinationEntry {
            destination: *destination,
            active: 0,
            inactive: 0,
            persistent: 0,
            statistics: Statistics::default(),
            rates: Rates::default(),
        };
        destinations.insert(0, entry);
        Ok(())
    }

    fn edit_destination(&mut self, service: &ServiceKey, destination: &Destination) -> Result<()> {
        let destinations = self.destinations(service)?;
        check::destination(service, destination)?;
        let at = find(destinations, &destination.key).ok_or(Error::NotFound)?;
        destinations[at].destination = *destination;
        Ok(())
    }

    fn delete_destination(&mut self, service: &ServiceKey, destination: &DestinationKey) -> Result<()> {
        let destinations = self.destinations(service)?;
        let at = find(destinations, destination).ok_or(Error::NotFound)?;
        destinations.remove(at);
        Ok(())
    }

    fn services(&self, _: Wanted) -> Result<Vec<ServiceEntry>> {
        Ok(self.entries.clone())
    }

    fn service(&self, key: &ServiceKey, _: Wanted) -> Result<ServiceEntry> {
        Ok(self.entries[self.position(key)?].clone())
    }

    fn timeouts(&self) -> Result<Timeouts> {
        Ok(self.timeouts)
    }

    fn set_timeouts(&mut self, timeouts: Timeouts) -> Result<()> {
        let keep = |new, old| if new == 0 { old } else { new };
        self.timeouts = Timeouts {
            tcp: keep(timeouts.tcp, self.timeouts.tcp),
            tcp_fin: keep(timeouts.tcp_fin, self.timeouts.tcp_fin),
            udp: keep(timeouts.udp, self.timeouts.udp),
        };
        Ok(())
    }

    fn sysctls(&self) -> Result<Sysctls> {
        Ok(self.sysctls)
    }

    fn set_sysctls(&mut self, sysctls: &Sysctls) -> Result<()> {
        self.sysctls = *sysctls;
        Ok(())
    }

    fn marks(&self) -> Result<Vec<Mark>> {
        Ok(self.marks.clone())
    }

    fn set_marks(&mut self, marks: &[Mark]) -> Result<()> {
        marks.clone_into(&mut self.marks);
        self.marks.sort_by_key(|mark| mark.traffic);
        Ok(())
    }

    fn locals(&self, service: Option<&ServiceKey>) -> Result<Vec<LocalEntry>> {
        service.map_or(Ok(0), |service| self.position(service))?;
        let addresses = self.locals.get(&service.copied()).into_iter().flatten();
        Ok(addresses.map(|address| LocalEntry { address: *address, connections: 0, conflicts: 0 }).collect())
    }

    fn set_locals(&mut self, service: Option<&ServiceKey>, addresses: &[IpAddr]) -> Result<()> {
        service.map_or(Ok(0), |service| self.position(service))?;
        addresses.iter().try_for_each(|address| check::local_address(*address))?;
        let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.iter().partition(|address| address.is_ipv4());
        self.locals.insert(service.copied(), [v4, v6].concat());
        Ok(())
    }

    fn access(&self, kind: AccessKind, service: Option<&ServiceKey>) -> Result<Vec<AccessEntry>> {
        service.map_or(Ok(0), |service| self.position(service))?;
        let entry = |(prefix, seconds): (&_, &_)| AccessEntry {
            rule: AccessRule { prefix: *prefix, seconds: *seconds },
            packets: 0,
        };
        Ok(self.access.get(&(kind, service.copied())).into_iter().flatten().map(entry).collect())
    }

    fn edit_access(&mut self, kind: AccessKind, service: Option<&ServiceKey>, change: &AccessChange) -> Result<()> {
        service.map_or(Ok(0), |service| self.position(service))?;
        change.apply(self.access.entry((kind, service.copied())).or_default());
        Ok(())
    }

    /// The only device is `eth0`, and its MTU 1500.
    fn start_daemon(&mut self, daemon: &Daemon) -> Result<()> {
        if daemon.interface != Daemon::INTERFACE {
            return Err(Error::Os(libc::ENODEV));
        }
        if self.daemons.iter().any(|running| running.role == daemon.role) {
            return Err(Error::Exists);
        }
        self.daemons.push(Daemon { maxlen: daemon.length(1500), ..daemon.clone() });
        self.daemons.sort_by_key(|daemon| daemon.role as u8);
        Ok(())
    }

    fn stop_daemon(&mut self, role: Role) -> Result<()> {
        let at = self.daemons.iter().position(|daemon| daemon.role == role).ok_or(Error::NoService)?;
        self.daemons.remove(at);
        Ok(())
    }

    fn daemons(&self) -> Result<Vec<Daemon>> {
        Ok(self.daemons.clone())
    }

    fn connections(&self, visit: &mut dyn FnMut(&Connection)) -> Result<()> {
        self.connections.iter().for_each(visit);
        Ok(())
    }

    fn table_size(&self) -> Result<u32> {
        Ok(4096)
    }

    fn begin(&mut self) -> Result<()> {
        self.before = Some(Box::new(self.clone()));
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        self.before = None;
        Ok(())
    }

    fn abort(&mut self) -> Result<()> {
        if let Some(before) = self.before.take() {
            *self = *before;
        }
        Ok(())
    }
}
