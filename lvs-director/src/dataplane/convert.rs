//! Between the rules' model and the map ABI.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lvs_common::abi::{
    AF_INET, Address, DestConfig, Destination as Slot, MarkRule, Service as ServiceSlot, ServiceConfig, dest_flags,
    service_flags,
};
use lvs_common::byte_order::Be16;

use crate::rules::{
    Destination, DestinationKey, Family, Mark, Netmask, PersistenceEngine, Prefix, Protocol, Service, ServiceKey,
    Traffic, Tunnel, scheduler_by_number,
};

/// An address as the maps hold it.
pub fn address(ip: IpAddr) -> Address {
    match ip {
        IpAddr::V4(v4) => Address::v4(v4.octets()),
        IpAddr::V6(v6) => Address::v6(v6.octets()),
    }
}

/// An address of `family` from the maps.
pub fn ip(address: Address, family: u8) -> IpAddr {
    if family == AF_INET {
        IpAddr::V4(Ipv4Addr::from(address.octets4()))
    } else {
        IpAddr::V6(Ipv6Addr::from(address.octets6()))
    }
}

/// A service's configuration as the maps hold it, without what is derived from its destinations.
pub fn service_config(service: &Service) -> ServiceConfig {
    ServiceConfig {
        flags: service.flags | service_flags::PRESENT,
        scheduler: service.scheduler as u8,
        pe: u8::from(service.engine.is_some()),
        persist_timeout: service.timeout,
        netmask: match service.netmask {
            Netmask::V4(mask) => u32::from_ne_bytes(mask.octets()),
            Netmask::V6(prefix) => u32::from(prefix),
        },
        own: service.own,
        ..ServiceConfig::default()
    }
}

/// What a service's slot is found by.
pub fn service_key(slot: &ServiceSlot) -> ServiceKey {
    let family = if slot.family == AF_INET { Family::V4 } else { Family::V6 };
    match Protocol::from_number(slot.protocol) {
        Some(protocol) if slot.fwmark == 0 => {
            ServiceKey::Address { protocol, address: ip(slot.address, slot.family), port: slot.port.get() }
        }
        _ => ServiceKey::Fwmark { mark: slot.fwmark, family },
    }
}

/// A classification rule as the maps hold it.
pub fn mark_rule(rule: &Mark) -> MarkRule {
    let Mark { traffic, mark } = *rule;
    MarkRule {
        destination: address(traffic.to.address),
        source: address(traffic.from.address),
        mark,
        first_port: traffic.ports.0,
        last_port: traffic.ports.1,
        destination_bits: traffic.to.length,
        source_bits: traffic.from.length,
        protocol: traffic.protocol.map_or(0, |protocol| protocol as u8),
        family: traffic.family().number(),
        pad: 0,
    }
}

/// A classification rule from the maps.
pub fn mark(rule: &MarkRule) -> Mark {
    let prefix = |address, length| Prefix { address: ip(address, rule.family), length };
    let traffic = Traffic {
        to: prefix(rule.destination, rule.destination_bits),
        from: prefix(rule.source, rule.source_bits),
        ports: (rule.first_port, rule.last_port),
        protocol: Protocol::from_number(rule.protocol),
    };
    Mark { traffic, mark: rule.mark }
}

/// A service from its slot and configuration.
pub fn service(slot: &ServiceSlot, config: &ServiceConfig) -> Service {
    let netmask = if slot.family == AF_INET {
        Netmask::V4(Ipv4Addr::from(config.netmask.to_ne_bytes()))
    } else {
        Netmask::V6(config.netmask as u8)
    };
    Service {
        key: service_key(slot),
        scheduler: scheduler_by_number(config.scheduler).unwrap_or_default(),
        flags: config.flags & !service_flags::PRESENT,
        timeout: config.persist_timeout,
        netmask,
        engine: (config.pe != 0).then_some(PersistenceEngine::Sip),
        own: config.own,
    }
}

/// The flags of a configured destination of a service.
pub fn dest_flags(service: &ServiceConfig) -> u32 {
    let own = if service.own.has_timeouts() { dest_flags::OWN_TIMEOUTS } else { 0 };
    dest_flags::AVAILABLE | own
}

/// The configuration of a service's destination as the maps hold it; its place on the list stays that of `before`.
pub fn dest_config(service: &ServiceConfig, destination: &Destination, before: &DestConfig) -> DestConfig {
    DestConfig {
        flags: dest_flags(service),
        weight: destination.weight,
        last_weight: if destination.weight != 0 { destination.weight } else { before.last_weight },
        next: before.next,
        upper: destination.upper,
        lower: destination.lower,
        forward: destination.forward.into(),
        tunnel: destination.tunnel.kind,
        tunnel_flags: destination.tunnel.flags,
        pad: 0,
        tunnel_port: Be16::new(destination.tunnel.port),
        pad2: 0,
    }
}

/// What a destination's slot is found by.
pub fn dest_key(slot: &Slot) -> DestinationKey {
    DestinationKey { address: ip(slot.address, slot.family), port: slot.port.get() }
}

/// A destination from its slot and configuration.
pub fn destination(slot: &Slot, config: &DestConfig) -> Destination {
    Destination {
        key: dest_key(slot),
        forward: config.forward.forward().unwrap_or_default(),
        weight: config.weight,
        upper: config.upper,
        lower: config.lower,
        tunnel: Tunnel { kind: config.tunnel, port: config.tunnel_port.get(), flags: config.tunnel_flags },
    }
}
