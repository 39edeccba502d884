//! Rates: what two snapshots counted, and the time between them.

use std::collections::HashMap;
use std::time::Duration;

use lvs_director::rules::{DestinationKey, ServiceKey, Statistics};

use super::take::Snapshot;

/// What happens in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PerSecond {
    /// Connections.
    pub conns: f64,
    /// Packets from clients.
    pub in_packets: f64,
    /// Packets from real servers.
    pub out_packets: f64,
    /// Bytes from clients.
    pub in_bytes: f64,
    /// Bytes from real servers.
    pub out_bytes: f64,
}

impl PerSecond {
    /// Of counters before and after.
    fn between(before: &Statistics, after: &Statistics, time: Duration) -> Self {
        PerSecond {
            conns: per_second(before.conns, after.conns, time),
            in_packets: per_second(before.in_packets, after.in_packets, time),
            out_packets: per_second(before.out_packets, after.out_packets, time),
            in_bytes: per_second(before.in_bytes, after.in_bytes, time),
            out_bytes: per_second(before.out_bytes, after.out_bytes, time),
        }
    }
}

/// How much a counter grew in a second. One that is behind was set to zero meanwhile.
fn per_second(before: u64, after: u64, time: Duration) -> f64 {
    let seconds = time.as_secs_f64();
    let grown = after.checked_sub(before).unwrap_or(after) as f64;
    if seconds > 0.0 { grown / seconds } else { 0.0 }
}

/// What changed from one snapshot to another, in a second.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Altogether.
    pub total: PerSecond,
    /// Packets by exit, in the order of the snapshot's.
    pub exits: Vec<f64>,
    services: HashMap<ServiceKey, PerSecond>,
    destinations: HashMap<(ServiceKey, DestinationKey), PerSecond>,
}

impl Change {
    /// Between two snapshots.
    pub fn between(before: &Snapshot, after: &Snapshot) -> Self {
        let time = after.taken.duration_since(before.taken).unwrap_or_default();
        let mut change = Change {
            total: PerSecond::between(&before.total, &after.total, time),
            exits: before.exits.iter().zip(&after.exits).map(|(a, b)| per_second(a.2, b.2, time)).collect(),
            ..Change::default()
        };
        let known: HashMap<_, _> = before.services.iter().map(|entry| (entry.service.key, entry)).collect();
        for entry in &after.services {
            let service = entry.service.key;
            // One that has come since counted from zero.
            let other = known.get(&service);
            let counted = other.map(|other| other.statistics).unwrap_or_default();
            change.services.insert(service, PerSecond::between(&counted, &entry.statistics, time));
            let mut servers: HashMap<_, _> = HashMap::new();
            servers.extend(other.iter().flat_map(|o| &o.destinations).map(|d| (d.destination.key, d.statistics)));
            for listed in &entry.destinations {
                let server = listed.destination.key;
                let counted = servers.get(&server).copied().unwrap_or_default();
                let rates = PerSecond::between(&counted, &listed.statistics, time);
                change.destinations.insert((service, server), rates);
            }
        }
        change
    }

    /// Of a service; nothing, if it was not there.
    pub fn service(&self, service: &ServiceKey) -> PerSecond {
        self.services.get(service).copied().unwrap_or_default()
    }

    /// Of a destination of a service.
    pub fn destination(&self, service: &ServiceKey, destination: &DestinationKey) -> PerSecond {
        self.destinations.get(&(*service, *destination)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_time_between() {
        let at = |conns, in_bytes| Statistics { conns, in_bytes, ..Statistics::default() };
        let rates = PerSecond::between(&at(10, 1000), &at(15, 3000), Duration::from_secs(2));
        assert_eq!(rates, PerSecond { conns: 2.5, in_bytes: 1000.0, ..PerSecond::default() });
        // Zeroed meanwhile, or nothing between them.
        assert_eq!(per_second(100, 4, Duration::from_secs(2)), 2.0);
        assert_eq!(per_second(1, 9, Duration::ZERO), 0.0);
    }
}
