//! Packets whose fragments are still coming, and the fragments that wait.

use lvs_common::{
    abi::Address,
    fragments::{CELL, HEADERS},
};

/// What tells fragments of one packet from those of another (RFC 791, RFC 8200 §4.5).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Key {
    pub source: Address,
    pub destination: Address,
    pub id: u32,
    pub protocol: u32,
}

/// A packet whose fragments are coming.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Datagram {
    /// Until when fragments are waited for, jiffies.
    pub deadline: u64,
    /// Tells the packet's fragments from those of others, never 0.
    pub serial: u32,
    /// A [`State`](crate::table::fragments::State), as a number.
    pub state: u32,
    /// The ports, as they stand in the first fragment.
    pub ports: u32,
    /// The cell of the fragment that came last of those that wait, plus 1; 0 if none waits.
    pub newest: u32,
    /// How many wait.
    pub waiting: u32,
    /// Bytes of payload that have come.
    pub have: u32,
    /// Bytes of the whole payload; 0 while the last fragment is missing.
    pub total: u32,
    /// The destination that one-packet scheduling gave the packet; 0 if it has not.
    pub dest: u32,
}

/// The bytes of a fragment, or of a part of one.
#[repr(C)]
pub struct Cell {
    /// In the first cell: what stands in front of the payload, from the Ethernet header on.
    pub headers: [u8; HEADERS],
    pub payload: [u8; CELL],
}
