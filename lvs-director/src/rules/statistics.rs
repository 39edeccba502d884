//! What a director reports: entries of a listing, rates and timeouts.

pub use lvs_common::abi::Counters as Statistics;

use super::destination::Destination;
use super::service::Service;

/// Estimated rates, each per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Connections.
    pub conns: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets from real servers.
    pub out_packets: u64,
    /// Bytes from clients.
    pub in_bytes: u64,
    /// Bytes from real servers.
    pub out_bytes: u64,
}

/// A service as a director lists it.
#[derive(Clone, Debug)]
pub struct ServiceEntry {
    /// Its configuration.
    pub service: Service,
    /// What it counted since the last zeroing, if asked for.
    pub statistics: Statistics,
    /// Its rates, if asked for.
    pub rates: Rates,
    /// Its destinations, the newest first.
    pub destinations: Vec<DestinationEntry>,
}

/// A destination as a director lists it.
#[derive(Clone, Copy, Debug)]
pub struct DestinationEntry {
    /// Its configuration.
    pub destination: Destination,
    /// Active connections.
    pub active: u32,
    /// Inactive connections.
    pub inactive: u32,
    /// Persistence templates that point at it.
    pub persistent: u32,
    /// What it counted since the last zeroing, if asked for.
    pub statistics: Statistics,
    /// Its rates, if asked for.
    pub rates: Rates,
}
