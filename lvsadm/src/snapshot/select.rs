//! Which services are shown, and in which order.

use lvs_director::rules::{DestinationKey, Protocol, ServiceEntry, ServiceKey};

use crate::grammar::Dialect;
use crate::grammar::subcommands::Order;
use crate::render::Labels;

/// The numbers of a service that orders look at.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Key {
    /// New connections in a second.
    pub conns: f64,
    /// Packets in a second.
    pub packets: f64,
    /// Bytes in a second.
    pub bytes: f64,
}

/// A service as listings name it, and `filter` looks at it: `TCP 10.10.10.10:80`.
pub fn label(service: &ServiceKey) -> String {
    let text = Labels::numeric(Dialect::Own).service(service);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A real server in the same way.
fn server(server: &DestinationKey, protocol: Option<Protocol>) -> String {
    Labels::numeric(Dialect::Own).endpoint(server.address, server.port, protocol)
}

/// Places of the services that have `filter` in their name or in that of a real server, whatever the case, in an order. `key` gives
/// the numbers of a service.
pub fn select(services: &[ServiceEntry], filter: &str, order: Order, key: impl Fn(&ServiceEntry) -> Key) -> Vec<usize> {
    let filter = filter.trim().to_lowercase();
    let is_wanted = |entry: &ServiceEntry| {
        let (service, protocol) = (entry.service.key, entry.service.key.protocol());
        filter.is_empty()
            || label(&service).to_lowercase().contains(&filter)
            || entry.destinations.iter().any(|listed| server(&listed.destination.key, protocol).contains(&filter))
    };
    let weight = |entry: &ServiceEntry| {
        let sum = |of: fn(&lvs_director::rules::DestinationEntry) -> u32| {
            entry.destinations.iter().map(|listed| f64::from(of(listed))).sum()
        };
        match order {
            Order::Service => 0.0,
            Order::Connections => key(entry).conns,
            Order::Packets => key(entry).packets,
            Order::Bytes => key(entry).bytes,
            Order::Active => sum(|listed| listed.active),
            Order::Inactive => sum(|listed| listed.inactive),
        }
    };
    let wanted = services.iter().enumerate().filter(|(_, entry)| is_wanted(entry));
    let mut places: Vec<(usize, f64)> = wanted.map(|(at, entry)| (at, weight(entry))).collect();
    // Of equals, the order of listings stays.
    places.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    places.into_iter().map(|(at, _)| at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lvs_common::abi::{Forward, Scheduler};
    use lvs_director::rules::{Destination, DestinationEntry, Rates, Service, Statistics};

    fn entry(port: u16, server: &str, active: u32) -> ServiceEntry {
        let key = ServiceKey::Address { protocol: Protocol::Tcp, address: "192.0.2.1".parse().unwrap(), port };
        let server = DestinationKey { address: server.parse().unwrap(), port: 8080 };
        ServiceEntry {
            service: Service::new(key, Scheduler::Wlc),
            statistics: Statistics::default(),
            rates: Rates::default(),
            destinations: vec![DestinationEntry {
                destination: Destination::new(server, Forward::Masq),
                active,
                inactive: 0,
                persistent: 0,
                statistics: Statistics::default(),
                rates: Rates::default(),
            }],
        }
    }

    #[test]
    fn services_are_found_by_name_and_by_real_server() {
        let services = [entry(80, "10.0.0.1", 1), entry(443, "2001:db8::a", 3), entry(8080, "10.0.0.2", 2)];
        let found = |filter: &str, order| select(&services, filter, order, |_| Key::default());
        assert_eq!(found("", Order::Service), [0, 1, 2]);
        assert_eq!(found("", Order::Active), [1, 2, 0]);
        assert_eq!(found("tcp 192.0.2.1:80", Order::Service), [0, 2]);
        assert_eq!(found(" DB8::A ", Order::Service), [1]);
        assert_eq!(found("10.0.0.", Order::Active), [2, 0]);
        assert_eq!(found("nowhere", Order::Service), [0usize; 0]);
        let by_bytes = select(&services, "", Order::Bytes, |e| Key {
            bytes: if e.destinations[0].active == 2 { 9.0 } else { 1.0 },
            ..Key::default()
        });
        assert_eq!(by_bytes, [2, 0, 1]);
    }
}
