//! Local addresses of FullNAT.

use std::net::IpAddr;

/// A local address as it is listed. It is one, whatever pools it is in, and so are its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalEntry {
    /// The address.
    pub address: IpAddr,
    /// Connections that have a port of it.
    pub connections: u32,
    /// New connections that found none free.
    pub conflicts: u64,
}
