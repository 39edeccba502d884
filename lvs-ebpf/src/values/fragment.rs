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
    /// Always 0.
    pub pad: u32,
}

/// What stands in a cell. The numbers stand in a map of their own, which `lvsadm` reads.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Held {
    /// [`Datagram::serial`] of the packet; 0 if the cell is free.
    pub serial: u32,
    /// Which of the fragment's cells this is, from 0 on. The fields below stand in the first one.
    pub number: u32,
    /// The cell, plus 1, of the fragment that came before this one.
    pub older: u32,
    /// Where in the packet's payload the fragment begins.
    pub offset: u32,
    /// Bytes of its payload.
    pub length: u32,
    /// Where its payload begins in the frame.
    pub at: u32,
    /// Bytes of IP packet.
    pub size: u32,
    /// IPv6: where in the frame the byte is that announces the fragment header.
    pub link: u32,
}

/// The bytes of a fragment, or of a part of one.
#[repr(C)]
pub struct Cell {
    /// In the first cell: what stands in front of the payload, from the Ethernet header on.
    pub headers: [u8; HEADERS],
    pub payload: [u8; CELL],
}
