//! What the maps tell: services, destinations, counters, connections.

use lvs_common::abi::{
    Bucket, Connection as Entry, Counters, DestId, Destination as Slot, IpAddress, Rates as Averages, ServiceId, WAYS,
    conn_flags, conn_kind, service_flags,
};
use lvs_common::{estimator, state};

use super::convert;
use super::mapped::Mapped;
use super::plane::Plane;
use super::slots;
use crate::director::Wanted;
use crate::rules::{Connection, DestinationEntry, Protocol, Rates, ServiceEntry};

impl Plane {
    /// Services that are configured, oldest first.
    pub fn service_ids(&self) -> Vec<ServiceId> {
        let is_present = |id: &ServiceId| self.service_config(*id).flags & service_flags::PRESENT != 0;
        let mut ids: Vec<_> = (1..self.settings().services_used).filter(is_present).collect();
        ids.sort_by_key(|id| self.services.get(*id).serial);
        ids
    }

    /// A service with what is wanted of it. `deleted` is what its deleted destinations have counted, by service.
    pub fn entry(&self, id: ServiceId, wanted: Wanted, deleted: &Counters) -> ServiceEntry {
        let slot = self.services.get(id);
        let service = convert::service(&slot, &self.service_config(id));
        let ids = if wanted.destinations || wanted.statistics { self.list(id) } else { Vec::new() };
        let mut statistics = slot.folded.plus(*deleted);
        let destinations = ids
            .into_iter()
            .map(|id| {
                let dest = self.dests.get(id);
                if wanted.statistics {
                    statistics = statistics.plus(self.counted(id).since(dest.origin));
                }
                self.destination(id, &dest, wanted)
            })
            .collect();
        ServiceEntry {
            service,
            statistics: statistics.since(slot.base),
            rates: rates(&self.service_rates.get(id)),
            destinations,
        }
    }

    /// What a service has counted since it was made, deleted destinations included.
    pub fn service_counted(&self, id: ServiceId) -> Counters {
        let serial = self.services.get(id).serial;
        let mut sum = self.services.get(id).folded;
        for dest in 1..self.settings().dests_used {
            let slot = self.dests.get(dest);
            if slot.service == id && slot.service_serial == serial {
                sum = sum.plus(self.counted(dest).since(slot.origin));
            }
        }
        sum
    }

    /// What destinations that are deleted but not yet forgotten have counted, by service.
    pub fn deleted_counts(&self) -> std::collections::HashMap<ServiceId, Counters> {
        let mut sums = std::collections::HashMap::new();
        for dest in 1..self.settings().dests_used {
            let slot = self.dests.get(dest);
            let gone = slot.deleted != 0 && slot.slot == lvs_common::abi::dest_slot::USED;
            if gone && slot.service_serial == self.services.get(slot.service).serial {
                let sum: &mut Counters = sums.entry(slot.service).or_default();
                *sum = sum.plus(self.counted(dest).since(slot.origin));
            }
        }
        sums
    }

    fn destination(&self, id: DestId, dest: &Slot, wanted: Wanted) -> DestinationEntry {
        let (active, inactive) = Slot::split(dest.connections);
        DestinationEntry {
            destination: convert::destination(dest, &self.dest_config(id)),
            active,
            inactive,
            persistent: dest.persistent,
            statistics: if wanted.statistics { slots::dest_statistics(self, id, dest) } else { Counters::default() },
            rates: if wanted.rates { rates(&self.dest_rates.get(id)) } else { Rates::default() },
        }
    }

    /// Shows every connection and template to `visit`.
    pub fn each_connection(&self, visit: &mut dyn FnMut(&Connection)) {
        let clock = Clock::of(self);
        each(&self.buckets4, &self.conns4, |c| visit(&self.row(c, &clock)));
        each(&self.buckets6, &self.conns6, |c| visit(&self.row(c, &clock)));
    }

    fn row<A: IpAddress>(&self, c: &Entry<A>, clock: &Clock) -> Connection {
        let family = A::FAMILY;
        let template = c.kind == conn_kind::TEMPLATE;
        let dest = self.dests.get(c.dest.min(self.dests.count() - 1));
        let real = if dest.family == family { c.real.widen() } else { dest.address };
        // A template that must not decide any more, as IPVS shows it.
        let set_aside = c.state & conn_flags::INVALID != 0;
        let port = |port: u16| if set_aside { u16::MAX } else { u16::from_be(port) };
        Connection {
            protocol: Protocol::from_number(c.protocol),
            expires: clock.left(c),
            state: state::name(c.protocol, c.state, template),
            client: (convert::ip(c.client.widen(), family), u16::from_be(c.client_port)),
            virt: (convert::ip(c.virt.widen(), family), port(c.virt_port)),
            real: (convert::ip(real, dest.family), port(c.real_port)),
            engine: None,
        }
    }
}

/// Shows the connections of one table.
fn each<A: Copy>(buckets: &Mapped<Bucket>, connections: &Mapped<Entry<A>>, mut visit: impl FnMut(&Entry<A>)) {
    for b in 0..buckets.count() {
        let bucket = buckets.get(b);
        if bucket.used == 0 {
            continue;
        }
        for way in 0..WAYS {
            if (bucket.tags[way as usize / 4] >> (way % 4 * 16)) as u16 == 0 {
                continue;
            }
            let connection = connections.get(b * WAYS + way);
            if connection.state & conn_flags::DEAD == 0 {
                visit(&connection);
            }
        }
    }
}

/// The data plane's clock, read once for a listing.
struct Clock {
    now: u64,
    hz: u64,
}

impl Clock {
    fn of(plane: &Plane) -> Self {
        let settings = plane.settings();
        let hz = u64::from(super::load::ticks_per_second());
        let own = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
        let ns = own.map_or(settings.now_ns, |t| t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64);
        // The sweep's clock is a sixteenth of a second old at most.
        Clock { now: settings.now + ns.saturating_sub(settings.now_ns) * hz / 1_000_000_000, hz }
    }

    /// Seconds until a connection expires.
    fn left<A>(&self, c: &Entry<A>) -> u32 {
        let due = c.last_seen + u64::from(c.timeout);
        (due.saturating_sub(self.now) / self.hz) as u32
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
