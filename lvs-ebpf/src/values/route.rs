//! A route that was looked up.

use lvs_common::abi::{Address, NextHop};

/// What a route look-up found.
#[derive(Clone, Copy)]
pub struct Route {
    pub hop: NextHop,
    /// The gateway, or the destination itself.
    pub gateway: Address,
    /// The gateway's family: an IPv4 route may have an IPv6 gateway.
    pub family: u8,
    /// The source address the route prefers; all 0 if the kernel does not say.
    pub source: Address,
    pub local: bool,
}
