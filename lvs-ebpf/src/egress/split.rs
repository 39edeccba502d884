//! The program `Split` sends a packet in fragments. TC only.

use lvs_common::{abi::DestId, programs::Program};

use crate::{
    packet::{
        access::TcPacket,
        control_block::{self, Cutting},
    },
    programs::jump,
};

/// Sends a finished packet to destination `dest` (0: to where its header says) in fragments of at most `most` bytes.
#[inline(always)]
pub fn split(packet: TcPacket, dest: DestId, most: u32) -> i32 {
    split_tunnelled(packet, dest, most, 0)
}

/// The same for a packet that a tunnel has put `lead` bytes of headers in front of; 0 unless it is one of IPv6 in IPv6.
#[inline(always)]
pub fn split_tunnelled(packet: TcPacket, dest: DestId, most: u32, lead: u32) -> i32 {
    control_block::set_cutting(packet, Cutting { most, dest, lead });
    jump::<u32, _>(packet, Program::Split)
}
