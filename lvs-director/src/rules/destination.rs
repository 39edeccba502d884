//! Destinations: the real servers of a virtual service.

use std::net::IpAddr;

use lvs_common::abi::Forward;
use lvs_common::abi::tunnel::TunnelKind;

use super::service::Family;

/// What tells one destination of a service from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DestinationKey {
    /// Address of the real server.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
}

/// The tunnel to a real server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tunnel {
    /// Its kind.
    pub kind: TunnelKind,
    /// UDP port of the real server's end, for the types that have one.
    pub port: u16,
    /// Flags of [`lvs_common::abi::tunnel`].
    pub flags: u8,
}

/// A destination as it is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// What it is found by.
    pub key: DestinationKey,
    /// How packets reach it.
    pub forward: Forward,
    /// Weight, 0..=2^31-1.
    pub weight: u32,
    /// Number of connections from which on it gets no new ones; 0 is none.
    pub upper: u32,
    /// Number of connections below which it gets new ones again; 0 is three quarters of `upper`.
    pub lower: u32,
    /// The tunnel; means something with [`Forward::Tunnel`] only.
    pub tunnel: Tunnel,
}

impl Destination {
    /// A destination of weight 1 without thresholds.
    pub fn new(key: DestinationKey, forward: Forward) -> Self {
        Destination { key, forward, weight: 1, upper: 0, lower: 0, tunnel: Tunnel::default() }
    }

    /// Address family of the real server, which differs from the service's in tunnels and FullNAT only.
    pub fn family(&self) -> Family {
        Family::of(self.key.address)
    }
}
