//! What a pick is made for, and what it comes to.

use crate::{
    abi::{Address, DestId},
    byte_order::Be16,
};

/// What tells one new connection from another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PickKey {
    /// Source address of its first packet.
    pub client: Address,
    /// Destination address of its first packet.
    pub virt: Address,
    /// Source port.
    pub client_port: Be16,
    /// Uniformly distributed numbers (twos).
    pub random: [u32; 2],
    /// The time (lblc, lblcr), in the unit of [`Locality::lifetime`](crate::sched::locality::Locality::lifetime).
    pub now: u64,
}

/// What a pick comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pick {
    /// The destination, 0 if none can take the connection.
    pub dest: DestId,
    /// The service's state word afterwards, also when there was no destination.
    pub state: u64,
}
