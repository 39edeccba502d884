//! Properties of the command line: saved rules restore to the same rules, and nothing on a command line is fatal.

mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use common::{TestNames, ipvsadm};
use lvs_common::abi::{Forward, SCHEDULERS, service_flags, tunnel};
use lvsadm::director::{Director, MemoryDirector, Wanted};
use lvsadm::grammar::{self, Dialect};
use lvsadm::rules::{
    Destination, DestinationKey, Family, Netmask, PersistenceEngine, Protocol, Service, ServiceKey, Tunnel,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// An address a real server can have.
fn address(family: Family) -> BoxedStrategy<IpAddr> {
    match family {
        Family::V4 => (1..0xe000_0000u32).prop_map(|bits| IpAddr::V4(Ipv4Addr::from(bits))).boxed(),
        Family::V6 => (any::<u128>()).prop_map(|bits| IpAddr::V6(Ipv6Addr::from(bits >> 3 | 1 << 125))).boxed(),
    }
}

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::V4), Just(Family::V6)]
}

fn key() -> impl Strategy<Value = ServiceKey> {
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)];
    let by_address = (protocol, family().prop_flat_map(address), any::<u16>())
        .prop_map(|(protocol, address, port)| ServiceKey::Address { protocol, address, port });
    let by_mark = (1u32.., family()).prop_map(|(mark, family)| ServiceKey::Fwmark { mark, family });
    prop_oneof![3 => by_address, 1 => by_mark]
}

fn netmask(family: Family) -> BoxedStrategy<Netmask> {
    match family {
        Family::V4 => any::<u32>().prop_map(|bits| Netmask::V4(Ipv4Addr::from(bits))).boxed(),
        Family::V6 => (1..=128u8).prop_map(Netmask::V6).boxed(),
    }
}

fn service() -> impl Strategy<Value = Service> {
    key()
        .prop_flat_map(|key| {
            let persistence = option::of((1..2_678_400u32, netmask(key.family())));
            (Just(key), 0..SCHEDULERS.len(), 0..8u32, any::<bool>(), persistence, any::<bool>())
        })
        .prop_map(|(key, scheduler, flags, one_packet, persistence, sip)| {
            let mut service = Service::new(key, SCHEDULERS[scheduler].1);
            service.flags = flags * service_flags::SCHED1;
            service.engine = sip.then_some(PersistenceEngine::Sip);
            if one_packet && matches!(key.protocol(), None | Some(Protocol::Udp)) {
                service.flags |= service_flags::ONE_PACKET;
            }
            // A service of every port has to be persistent.
            let every_port = matches!(key, ServiceKey::Address { port: 0, .. });
            let whole = || (300, Netmask::full(key.family()));
            if let Some((timeout, netmask)) = persistence.or_else(|| every_port.then(whole)) {
                service.flags |= service_flags::PERSISTENT;
                (service.timeout, service.netmask) = (timeout, netmask);
            }
            service
        })
}

fn destination(service: ServiceKey) -> impl Strategy<Value = Destination> {
    let forwards = [Forward::Masq, Forward::Tunnel, Forward::Route, Forward::FullNat];
    let tunnels = prop_oneof![
        Just(Tunnel::default()),
        (1u16.., 0..3u8).prop_map(|(port, flags)| Tunnel { kind: tunnel::GUE, port, flags }),
        (0..2u8).prop_map(|flags| Tunnel { kind: tunnel::GRE, port: 0, flags }),
        (1u16.., 0..2u8).prop_map(|(port, flags)| Tunnel { kind: tunnel::VXLAN, port, flags }),
    ];
    (0..forwards.len(), family(), any::<u16>(), 0..=i32::MAX as u32, tunnels).prop_flat_map(
        move |(forward, family, port, weight, tunnel)| {
            let forward = forwards[forward];
            let family = if forward == Forward::Tunnel { family } else { service.family() };
            address(family).prop_map(move |address| {
                // Where packets are not rewritten the port is the service's.
                let port = match (forward, service) {
                    (Forward::Route | Forward::Tunnel, ServiceKey::Address { port, .. }) => port,
                    _ => port,
                };
                let tunnel = if forward == Forward::Tunnel { tunnel } else { Tunnel::default() };
                Destination { weight, tunnel, ..Destination::new(DestinationKey { address, port }, forward) }
            })
        },
    )
}

/// A table as data: services and destinations, in an order of their own.
fn table(director: &MemoryDirector) -> Vec<(ServiceKey, Service, Vec<Destination>)> {
    let entries = director.services(Wanted { destinations: true, ..Wanted::default() }).unwrap();
    let mut table: Vec<_> = entries
        .into_iter()
        .map(|entry| {
            let mut destinations: Vec<_> = entry.destinations.iter().map(|listed| listed.destination).collect();
            destinations.sort_by_key(|destination| destination.key);
            (entry.service.key, entry.service, destinations)
        })
        .collect();
    table.sort_by_key(|entry| entry.0);
    table
}

fn filled() -> impl Strategy<Value = MemoryDirector> {
    let entry = service().prop_flat_map(|service| (Just(service), vec(destination(service.key), 0..6)));
    vec(entry, 0..20).prop_map(|entries| {
        let mut director = MemoryDirector::default();
        for (service, destinations) in entries {
            // Doubles are refused, and that is fine.
            if director.add_service(&service).is_ok() {
                for destination in destinations {
                    let _ = director.add_destination(&service.key, &destination);
                }
            }
        }
        director
    })
}

/// Words that occur on command lines, and anything.
fn word() -> impl Strategy<Value = String> {
    let known = [
        "-A",
        "-E",
        "-D",
        "-L",
        "-a",
        "-e",
        "-d",
        "-S",
        "-Z",
        "-R",
        "--set",
        "--start-daemon",
        "master",
        "-t",
        "-u",
        "-f",
        "-6",
        "-r",
        "-p",
        "-M",
        "-s",
        "-b",
        "-w",
        "-x",
        "-n",
        "-c",
        "-Ln",
        "--stats",
        "--tun-type",
        "gue",
        "--tun-port=1",
        "-i",
        "-m",
        "--",
        "-",
        "",
        "1",
        "[::1]:80",
        "10.0.0.1:80",
        "sh",
        "sh-port,",
        "=",
        "--pe=",
        "--mcast-group",
    ];
    prop_oneof![4 => (0..known.len()).prop_map(move |index| known[index].to_owned()), 1 => any::<String>()]
}

proptest! {
    #[test]
    fn saved_rules_restore_to_the_same(mut director in filled()) {
        let saved = ipvsadm(&mut director, &["lvsadm", "-Sn"], "").stdout;
        let mut restored = MemoryDirector::default();
        let outcome = ipvsadm(&mut restored, &["lvsadm", "-R"], &saved);
        prop_assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""), "{}", saved);
        prop_assert_eq!(table(&restored), table(&director), "{}", saved);
    }

    #[test]
    fn no_command_line_is_fatal(words in vec(word(), 0..9), literal in any::<bool>()) {
        let arguments: Vec<&str> = words.iter().map(String::as_str).collect();
        let dialect = if literal { Dialect::Literal } else { Dialect::Own };
        let _ = grammar::parse(&arguments, dialect, &mut TestNames);
    }

    #[test]
    fn no_input_of_a_restore_is_fatal(input in any::<String>(), words in vec(word(), 0..9)) {
        let input = format!("{}\n{input}", words.join(" "));
        ipvsadm(&mut MemoryDirector::default(), &["ipvsadm", "-R"], &input);
    }
}
