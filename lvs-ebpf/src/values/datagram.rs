//! A packet that is put together from fragments.

use lvs_common::{abi::Address, reassembly::Pieces};

/// Packets that are put together at a time.
pub const SLOTS: u32 = 128;

/// `PAYLOAD` is less: offsets and lengths are masked by it for the verifier.
pub const MASK: u32 = 16_383;

/// What tells fragments of one packet from those of another (RFC 791, RFC 8200).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Key {
    pub source: Address,
    pub destination: Address,
    pub id: u32,
    pub protocol: u32,
}

/// A packet that is being put together.
#[repr(C)]
pub struct Datagram {
    pub lock: u32,
    /// Length of the longest fragment, bytes of IP packet.
    pub largest: u32,
    /// Until when the others are waited for, jiffies; 0 is a free slot.
    pub deadline: u64,
    pub key: Key,
    pub pieces: Pieces,
    /// Twice as long as needed: the verifier adds the greatest offset and length.
    pub payload: [u8; 2 * (MASK as usize + 1)],
}
