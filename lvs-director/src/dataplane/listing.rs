//! What the maps tell: services, destinations, counters, connections.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use lvs_common::abi::{
    Bucket, Connection as Entry, Counters, DestId, Destination as Slot, EngineKey, EntryKind, IpAddress,
    Rates as Averages, ServiceId, WAYS, conn_flags, dest_flags, dest_slot,
};
use lvs_common::byte_order::Be16;
use lvs_common::{estimator, state};

use super::clock::Clock;
use super::convert;
use super::error::Result;
use super::mapped::{Mapped, field};
use super::plane::Plane;
use super::slots;
use crate::director::Wanted;
use crate::rules::{
    Connection, DestinationEntry, DestinationKey, PersistenceEngine, Protocol, Rates, ServiceEntry, ServiceKey,
};

impl Plane {
    /// Services that are configured, oldest first.
    pub fn service_ids(&self) -> Vec<ServiceId> {
        let mut ids: Vec<_> = self.settings().service_slots().filter(|id| self.is_present(*id)).collect();
        ids.sort_by_cached_key(|id| field!(self.services, *id, serial));
        ids
    }

    /// Every service that is configured, with its destinations, by what both are found by.
    pub fn keys(&self) -> impl Iterator<Item = (ServiceKey, ServiceId, Vec<(DestinationKey, DestId)>)> + '_ {
        self.service_ids().into_iter().map(|id| {
            let keys = self.list(id).into_iter().map(|dest| (convert::dest_key(&self.dests.get(dest)), dest));
            (convert::service_key(&self.services.get(id)), id, keys.collect())
        })
    }

    /// A service with what is wanted of it. `deleted` is what its deleted destinations have counted.
    pub fn entry(&self, id: ServiceId, wanted: Wanted, deleted: &Counters) -> ServiceEntry {
        let slot = self.services.get(id);
        let service = convert::service(&slot, &self.service_config(id));
        let ids = if wanted.destinations { self.list(id) } else { Vec::new() };
        let statistics = if wanted.statistics { self.service_counted(id, deleted) } else { slot.base };
        ServiceEntry {
            service,
            statistics: statistics.since(slot.base),
            rates: if wanted.rates { rates(&self.service_rates.get(id)) } else { Rates::default() },
            destinations: ids.into_iter().map(|id| self.destination(id, wanted)).collect(),
        }
    }

    /// Every service that is configured, oldest first.
    ///
    /// If the caller has given the lock back, changes go on while the services are read. Those that changed meanwhile are read once more
    /// under the lock, so all of the listing is of one epoch. A change of a destination is one of its service.
    pub fn entries(&self, wanted: Wanted) -> Result<Vec<ServiceEntry>> {
        let epoch = self.now();
        let mut rows = self.rows(self.service_ids(), wanted);
        if !self.directory.is_locked() {
            let _lock = self.directory.lock_beside()?;
            let is_changed = |id: &ServiceId| field!(self.services, *id, switch).pending(epoch);
            let changed: HashSet<ServiceId> = self.settings().service_slots().filter(is_changed).collect();
            rows.retain(|(id, _)| !changed.contains(id));
            rows.extend(self.rows(changed.into_iter().filter(|id| self.is_present(*id)).collect(), wanted));
            rows.sort_by_cached_key(|(id, _)| field!(self.services, *id, serial));
        }
        Ok(rows.into_iter().map(|(_, entry)| entry).collect())
    }

    fn rows(&self, ids: Vec<ServiceId>, wanted: Wanted) -> Vec<(ServiceId, ServiceEntry)> {
        let deleted = if wanted.statistics && !ids.is_empty() { self.deleted_counts() } else { HashMap::new() };
        let none = Counters::default();
        ids.into_iter().map(|id| (id, self.entry(id, wanted, deleted.get(&id).unwrap_or(&none)))).collect()
    }

    /// What a service has counted since it was made. `deleted` is what its deleted destinations have.
    pub fn service_counted(&self, id: ServiceId, deleted: &Counters) -> Counters {
        let before = field!(self.services, id, folded).plus(*deleted);
        let counted = |dest: DestId| self.counted(dest).since(field!(self.dests, dest, origin));
        self.list(id).into_iter().fold(before, |sum, dest| sum.plus(counted(dest)))
    }

    /// What destinations that are deleted but not yet forgotten have counted, by service.
    pub fn deleted_counts(&self) -> HashMap<ServiceId, Counters> {
        let mut sums = HashMap::new();
        for dest in self.idle_dests() {
            if field!(self.dests, dest, slot) != dest_slot::USED {
                continue;
            }
            let service = field!(self.dests, dest, service);
            if field!(self.dests, dest, service_serial) == field!(self.services, service, serial) {
                let sum: &mut Counters = sums.entry(service).or_default();
                *sum = sum.plus(self.counted(dest).since(field!(self.dests, dest, origin)));
            }
        }
        sums
    }

    /// What has been counted altogether since the data plane was loaded.
    pub fn total_counted(&self) -> Counters {
        // A slot's counters never go back, whatever destination it is given to.
        self.settings().dest_slots().fold(Counters::default(), |sum, dest| sum.plus(self.counted(dest)))
    }

    fn destination(&self, id: DestId, wanted: Wanted) -> DestinationEntry {
        let dest = self.dests.get(id);
        let (active, inactive) = Slot::split(dest.connections);
        let statistics =
            if wanted.statistics { slots::dest_statistics(self, id, dest.base) } else { Counters::default() };
        DestinationEntry {
            destination: convert::destination(&dest, &dest.config[dest.switch.copy(self.epoch())]),
            active,
            inactive,
            persistent: dest.persistent,
            statistics,
            rates: if wanted.rates { rates(&self.dest_rates.get(id)) } else { Rates::default() },
        }
    }

    /// Shows every connection and template to `visit`.
    pub fn each_connection(&self, visit: &mut dyn FnMut(&Connection)) {
        let (clock, hides) = (Clock::of(self), self.is_removing());
        each(&self.buckets4, &self.conns4, |at, c| {
            if !(hides && self.is_left(c)) {
                visit(&self.row(at, c, &clock));
            }
        });
        each(&self.buckets6, &self.conns6, |at, c| {
            if !(hides && self.is_left(c)) {
                visit(&self.row(at, c, &clock));
            }
        });
    }

    /// Whether the sweep is taking the connections of removed destinations out: they are shown no more.
    fn is_removing(&self) -> bool {
        let settings = self.settings();
        settings.sysctls.expire_nodest_conn != 0 && settings.removal != 0 && settings.removal <= settings.epoch
    }

    /// Whether a connection is of a destination that was removed.
    fn is_left<A>(&self, c: &Entry<A>) -> bool {
        c.dest.is_some()
            && c.dest.get() < self.dests.count()
            && self.dest_config(c.dest).flags & dest_flags::AVAILABLE == 0
    }

    fn row<A: IpAddress>(&self, at: u32, c: &Entry<A>, clock: &Clock) -> Connection {
        let family = A::FAMILY;
        let template = c.kind == EntryKind::TEMPLATE;
        let dest = self.dests.get(c.dest.min(DestId::new(self.dests.count() - 1)));
        // One that is bypassed has no destination.
        let (real, real_family) = if c.dest.is_none() || dest.family == family {
            (c.real.widen(), family)
        } else {
            (dest.address, dest.family)
        };
        // A template that must not decide any more, as IPVS shows it.
        let set_aside = c.state & conn_flags::INVALID != 0;
        let port = |port: Be16| if set_aside { u16::MAX } else { port.get() };
        Connection {
            protocol: Protocol::from_number(c.protocol),
            expires: clock.left(c),
            state: state::name(c.protocol, c.state, template),
            client: (convert::ip(c.client.widen(), family), c.client_port.get()),
            virt: (convert::ip(c.virt.widen(), family), port(c.virt_port)),
            real: (convert::ip(real, real_family), port(c.real_port)),
            local: (c.local_id != 0).then(|| (self.local_of(c), c.local_port.get())),
            engine: (c.engine != 0).then(|| (PersistenceEngine::Sip, self.engine_text(at, family))),
        }
    }

    /// The local address of a connection, which is of its real server's family.
    fn local_of<A: IpAddress>(&self, c: &Entry<A>) -> IpAddr {
        if !c.is_crossed() {
            return convert::ip(c.local.widen(), A::FAMILY);
        }
        let local = self.locals.get(c.local_id.min(self.locals.count() - 1));
        convert::ip(local.address, local.family as u8)
    }

    /// What a persistence engine keyed a template with, as text.
    fn engine_text(&self, entry: u32, family: u8) -> String {
        let data = self.engine_data(EngineKey { entry, family: family.into() });
        let text = data.as_ref().and_then(|data| data.text.get(..data.length as usize));
        String::from_utf8_lossy(text.unwrap_or_default()).into_owned()
    }
}

/// Shows the connections of one table, each with its index.
pub fn each<A: Copy>(buckets: &Mapped<Bucket>, connections: &Mapped<Entry<A>>, mut visit: impl FnMut(u32, &Entry<A>)) {
    for b in 0..buckets.count() {
        let bucket = buckets.get(b);
        if bucket.used == 0 {
            continue;
        }
        for way in 0..WAYS {
            if (bucket.tags[way as usize / 4] >> (way % 4 * 16)) as u16 == 0 {
                continue;
            }
            let at = b * WAYS + way;
            let connection = connections.get(at);
            if connection.state & conn_flags::DEAD == 0 && !connection.kind.is_hidden() {
                visit(at, &connection);
            }
        }
    }
}

/// Rates for the reader.
pub fn rates(averages: &Averages) -> Rates {
    let r = estimator::per_second(&averages.average);
    Rates {
        conns: r.conns,
        in_packets: r.in_packets,
        out_packets: r.out_packets,
        in_bytes: r.in_bytes,
        out_bytes: r.out_bytes,
    }
}
