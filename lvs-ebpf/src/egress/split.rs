//! The program `Split` sends a packet in fragments. TC only.

use lvs_common::{abi::DestId, programs::Program};

use crate::{
    packet::{access::TcPacket, control_block},
    programs::jump,
};

/// Sends a finished packet to destination `dest` (0: to where its header says) in fragments of at most `most` bytes.
#[inline(always)]
pub fn split(packet: TcPacket, dest: DestId, most: u32) -> i32 {
    control_block::set_split(packet, most, dest);
    jump::<u32, _>(packet, Program::Split)
}
