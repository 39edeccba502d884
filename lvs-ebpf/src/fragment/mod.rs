//! Fragments, TC only. As IPVS sees packets behind the kernel's reassembly, fragments are put together first (`assemble`),
//! the packet is served as a whole, and leaves in fragments no larger than they came (`split`).

pub mod assemble;
pub mod split;

pub use split::split;

use crate::packet::Packet;

/// Word of the notes with the pipeline's flags.
pub const NOTE_FLAGS: usize = 4;
/// Flag: the connection that a request hits is to take it, `schedule` has decided.
const SETTLED: u32 = 1;

/// Forgets what an earlier packet or program left.
#[inline(always)]
pub fn clear_notes<P: Packet>(packet: P) {
    packet.set_note(NOTE_FLAGS, 0);
}

/// Notes that `schedule` has decided.
#[inline(always)]
pub fn settle<P: Packet>(packet: P) {
    packet.set_note(NOTE_FLAGS, packet.note(NOTE_FLAGS) | SETTLED);
}

/// Whether `schedule` has decided.
#[inline(always)]
pub fn is_settled<P: Packet>(packet: P) -> bool {
    packet.note(NOTE_FLAGS) & SETTLED != 0
}

/// Length of the longest fragment the packet was put together from, bytes of IP packet; 0 if it came whole.
#[inline(always)]
pub fn largest<P: Packet>(packet: P) -> u32 {
    packet.note(NOTE_FLAGS) >> 16
}
