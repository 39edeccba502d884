//! Tables of every kind, for properties.
#![allow(dead_code, reason = "not every test uses all of it")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lvs_common::abi::tunnel::TunnelKind;
use lvs_common::abi::{Forward, Sysctls, service_flags};
use lvs_common::sched::SCHEDULERS;
use lvs_director::director::{Director, MemoryDirector, Wanted};
use lvs_director::rules::{
    AccessChange, AccessKind, AccessRule, Destination, DestinationKey, EVERY_PORT, Family, Mark, MarkChange, Netmask,
    PersistenceEngine, Prefix, Protocol, SYSCTLS, Service, ServiceKey, Timeouts, Traffic, Tunnel,
};
use proptest::collection::{hash_set, vec};
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
            let mut service = Service::new(key, SCHEDULERS[scheduler].0);
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
        (1u16.., 0..3u8).prop_map(|(port, flags)| Tunnel { kind: TunnelKind::GUE, port, flags }),
        (0..2u8).prop_map(|flags| Tunnel { kind: TunnelKind::GRE, port: 0, flags }),
        (1u16.., 0..2u8).prop_map(|(port, flags)| Tunnel { kind: TunnelKind::VXLAN, port, flags }),
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
pub fn table(director: &MemoryDirector) -> Vec<(ServiceKey, Service, Vec<Destination>)> {
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

/// A table of up to 20 services without thresholds, which `-S` leaves out.
pub fn filled() -> impl Strategy<Value = MemoryDirector> {
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

fn prefix(family: Family) -> impl Strategy<Value = Prefix> {
    let whole = if family == Family::V4 { 32 } else { 128u8 };
    (address(family), 0..=whole)
        .prop_map(|(address, length)| Prefix::parse(&format!("{address}/{length}")).expect("a prefix"))
}

/// Classification rules, no two about the same traffic.
fn marks() -> impl Strategy<Value = Vec<Mark>> {
    let rule = family().prop_flat_map(|family| {
        let protocol = option::of((0..Protocol::ALL.len()).prop_map(|at| Protocol::ALL[at]));
        let ports = prop_oneof![Just(EVERY_PORT), any::<(u16, u16)>().prop_map(|(a, b)| (a.min(b), a.max(b)))];
        (prefix(family), prefix(family), ports, protocol, 1u32..)
            .prop_map(|(to, from, ports, protocol, mark)| Mark { traffic: Traffic { to, from, ports, protocol }, mark })
    });
    vec(rule, 0..6).prop_map(|rules| {
        let mut marks = Vec::new();
        rules.into_iter().for_each(|rule| MarkChange::Add(rule).apply(&mut marks));
        marks
    })
}

/// Local addresses, each once.
fn locals() -> impl Strategy<Value = Vec<IpAddr>> {
    let address = family().prop_flat_map(address).prop_filter("a host's", |address| !address.is_loopback());
    hash_set(address, 0..4).prop_map(|addresses| addresses.into_iter().collect())
}

/// A list of clients of either kind.
fn clients() -> impl Strategy<Value = (AccessKind, Vec<AccessRule>)> {
    let kind = prop_oneof![Just(AccessKind::Block), Just(AccessKind::Allow)];
    let rule = (family().prop_flat_map(prefix), option::of(1u32..))
        .prop_map(|(prefix, seconds)| AccessRule { prefix, seconds });
    (kind, vec(rule, 0..4))
}

/// A whole configuration: a table with thresholds, local addresses and services' timeouts, global timeouts, marks, lists
/// of clients, and settings.
pub fn configured() -> impl Strategy<Value = MemoryDirector> {
    let settings = vec((0..SYSCTLS.len(), any::<u64>()), 0..4);
    let thresholds = vec((0..=i32::MAX as u32, 0..=i32::MAX as u32), 1..8);
    let seconds = || 1..2_678_400u32;
    (
        filled(),
        thresholds,
        (seconds(), seconds(), seconds()),
        settings,
        (marks(), vec(locals(), 1..4), vec(clients(), 1..4)),
    )
        .prop_map(|(mut director, thresholds, (tcp, tcp_fin, udp), settings, (marks, pools, lists))| {
            let mut thresholds = thresholds.into_iter().cycle();
            for entry in &mut director.entries {
                let (one, other) = thresholds.next().expect("an endless one");
                if one % 4 == 0 {
                    let seconds = |number| number % 2_678_400;
                    (entry.service.own.tcp_timeout, entry.service.own.udp_timeout) = (seconds(one), seconds(other));
                }
                for listed in &mut entry.destinations {
                    let (one, other) = thresholds.next().expect("an endless one");
                    (listed.destination.upper, listed.destination.lower) = (one.max(other), one.min(other));
                }
            }
            director.set_timeouts(Timeouts { tcp, tcp_fin, udp }).unwrap();
            let mut sysctls = Sysctls::default();
            for (at, value) in settings {
                let (first, last) = (*SYSCTLS[at].range.start(), *SYSCTLS[at].range.end());
                SYSCTLS[at].set(&mut sysctls, first + (value % (u64::from(last - first) + 1)) as u32);
            }
            let ports = [sysctls.lport_min, sysctls.lport_max];
            (sysctls.lport_min, sysctls.lport_max) = (ports[0].min(ports[1]), ports[0].max(ports[1]));
            sysctls.sync_ports = sysctls.sync_ports.next_power_of_two();
            if sysctls.sync_period != 0 {
                sysctls.sync_threshold %= sysctls.sync_period;
            }
            director.set_sysctls(&sysctls).unwrap();
            director.set_marks(&marks).unwrap();
            director.set_locals(None, &pools[0]).unwrap();
            let keys: Vec<ServiceKey> = director.entries.iter().map(|entry| entry.service.key).collect();
            let services = std::iter::once(None).chain(keys.iter().map(Some));
            for (service, (kind, list)) in services.zip(lists) {
                director.edit_access(kind, service, &AccessChange::Add(list)).unwrap();
            }
            for (key, pool) in keys.iter().zip(&pools) {
                let suits = |address: &&IpAddr| Family::of(**address) == key.family();
                director.set_locals(Some(key), &pool.iter().filter(suits).copied().collect::<Vec<_>>()).unwrap();
            }
            director
        })
}

/// A configuration and another that shares services, destinations and marks with it, some of them changed.
pub fn related() -> impl Strategy<Value = (MemoryDirector, MemoryDirector)> {
    (configured(), configured(), vec(any::<u8>(), 1..64)).prop_map(|(one, mut other, choices)| {
        let mut choices = choices.into_iter().cycle();
        let mut choose = || choices.next().expect("an endless one");
        let mut marks = other.marks().unwrap();
        for mark in one.marks().unwrap() {
            let number = mark.mark ^ u32::from(choose() % 2) << 31;
            MarkChange::Add(Mark { mark: number.max(1), ..mark }).apply(&mut marks);
        }
        other.set_marks(&marks).unwrap();
        for entry in &one.entries {
            let mut service = entry.service;
            match choose() % 4 {
                0 => continue,
                1 => service.scheduler = SCHEDULERS[usize::from(choose()) % SCHEDULERS.len()].0,
                _ => {}
            }
            if other.add_service(&service).is_err() {
                continue;
            }
            for listed in &entry.destinations {
                let mut destination = listed.destination;
                match choose() % 4 {
                    0 => continue,
                    1 => destination.weight = u32::from(choose()),
                    _ => {}
                }
                other.add_destination(&service.key, &destination).unwrap();
            }
        }
        (one, other)
    })
}
