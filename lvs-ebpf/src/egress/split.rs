//! Requests to send a packet in fragments, which the program `split` does.

use crate::{
    exits,
    packet::access::Packet,
    programs::{Tail, jump},
};
use lvs_common::{abi::DestId, exit::Exit};

/// Words left for the program that cuts.
pub mod note {
    /// Length of the longest fragment there may be, bytes of IP packet.
    pub const MOST: usize = 0;
    /// The destination the packet goes to; 0 for one that goes where its header says.
    pub const DEST: usize = 1;
}

/// Sends a finished packet to destination `dest` (0: to where its header says) in fragments of at most `most` bytes.
#[inline(always)]
pub fn split<P: Packet>(packet: P, dest: DestId, most: u32) -> i32 {
    packet.set_note(note::MOST, most);
    packet.set_note(note::DEST, dest.get());
    jump(packet, Tail::Split);
    exits::drop(packet, Exit::DropInternal)
}
