//! A route that was looked up.

use lvs_common::abi::{Address, NextHop};

/// Who sends what goes by a route.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum By {
    /// The data plane, to a neighbour.
    Neighbour,
    /// The director's own stack takes it.
    Local,
    /// The network stack alone can send it, as the route encapsulates.
    Stack,
    /// The network stack has to send it, as an IPsec policy covers its destination; the hop is there, too.
    Protected,
}

/// What a route look-up found.
#[derive(Clone, Copy)]
pub struct Route {
    pub hop: NextHop,
    /// The gateway, or the destination itself.
    pub gateway: Address,
    /// The gateway's family: an IPv4 route may have an IPv6 gateway.
    pub family: u8,
    /// Before a look-up, the source that rules are asked about; after it, the source address that the route prefers, all 0 if the
    /// kernel does not say.
    pub source: Address,
    pub by: By,
}
