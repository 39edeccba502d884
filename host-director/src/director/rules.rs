//! Rules as a director in memory takes them.

use lvs_common::abi::tunnel::TunnelKind;
use lvs_common::abi::{AF_INET, AF_INET6, Address, Forward, OwnOptions, Scheduler};

/// An address with its family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// `AF_INET` or `AF_INET6`.
    pub family: u8,
    /// The address.
    pub address: Address,
}

impl Ip {
    /// An IPv4 address.
    pub const fn v4(octets: [u8; 4]) -> Self {
        Ip { family: AF_INET, address: Address::v4(octets) }
    }

    /// An IPv6 address.
    pub const fn v6(octets: [u8; 16]) -> Self {
        Ip { family: AF_INET6, address: Address::v6(octets) }
    }

    /// Whether it is one of IPv4.
    pub const fn is_v4(self) -> bool {
        self.family == AF_INET
    }

    /// Its bytes, 4 or 16.
    pub fn octets(self) -> Vec<u8> {
        if self.is_v4() { self.address.octets4().to_vec() } else { self.address.octets6().to_vec() }
    }

    /// Its bytes, those of IPv4 followed by zeroes.
    pub fn padded(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        for (place, byte) in bytes.iter_mut().zip(self.octets()) {
            *place = byte;
        }
        bytes
    }
}

/// A virtual service.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// The virtual address; of a service by mark, its family alone counts.
    pub address: Ip,
    /// The virtual port, 0 for all.
    pub port: u16,
    /// IP protocol number; 0 for a service by mark.
    pub protocol: u8,
    /// The mark, 0 for a service by address.
    pub mark: u32,
    /// The scheduler.
    pub scheduler: Scheduler,
    /// `service_flags`, without `PRESENT`.
    pub flags: u32,
    /// Persistence timeout, seconds.
    pub timeout: u32,
    /// Persistence granularity: an IPv4 mask in network order, or an IPv6 prefix length.
    pub netmask: u32,
    /// Whether the persistence engine `sip` keys templates.
    pub is_sip: bool,
    /// The options that IPVS lacks.
    pub own: OwnOptions,
}

/// A destination of a service.
#[derive(Clone, Copy, Debug)]
pub struct Destination {
    /// The real server.
    pub address: Ip,
    /// Its port.
    pub port: u16,
    /// Weight.
    pub weight: u32,
    /// How packets reach it.
    pub forward: Forward,
    /// Kind of the tunnel, for `Forward::Tunnel`.
    pub tunnel: TunnelKind,
    /// Flags of the tunnel.
    pub tunnel_flags: u8,
    /// Port of the tunnel.
    pub tunnel_port: u16,
    /// Upper and lower threshold of connections, 0 for none.
    pub thresholds: (u32, u32),
    /// The director's address toward the real server, as `lvsadm` found it; all 0 if there was no route then.
    pub source: Address,
}

impl Service {
    /// A service with a scheduler and no options.
    pub fn new(protocol: u8, address: Ip, port: u16, scheduler: Scheduler) -> Self {
        Service {
            address,
            port,
            protocol,
            mark: 0,
            scheduler,
            flags: 0,
            timeout: 0,
            netmask: if address.is_v4() { u32::MAX } else { 128 },
            is_sip: false,
            own: OwnOptions::default(),
        }
    }
}

impl Destination {
    /// A destination of weight 1 without thresholds.
    pub fn new(address: Ip, port: u16, forward: Forward) -> Self {
        Destination {
            address,
            port,
            weight: 1,
            forward,
            tunnel: TunnelKind(0),
            tunnel_flags: 0,
            tunnel_port: 0,
            thresholds: (0, 0),
            source: Address::default(),
        }
    }
}
