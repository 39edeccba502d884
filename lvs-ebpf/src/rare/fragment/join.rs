//! The program that joins the fragments of a packet, which have all come.

use lvs_common::{abi::IpAddress, exit::Exit, programs::Program};

use crate::{
    exits,
    packet::{access::TcPacket, control_block, fragment::Fragment},
    programs::jump,
    table::{fragments, reassemble},
};

/// Goes on with the whole packet.
#[inline(always)]
pub fn run<A: IpAddress>(packet: TcPacket) -> i32 {
    let Some(fragment) = Fragment::read::<A>(packet) else { return exits::drop(packet, Exit::DropInternal) };
    let Some(known) = fragments::find(&fragment.key) else { return exits::drop(packet, Exit::DropFragmentAged) };
    let Some(largest) = reassemble::join::<A>(packet, &fragment, known) else {
        return exits::drop(packet, Exit::DropFragmentAged);
    };
    control_block::clear(packet);
    control_block::set_largest(packet, largest);
    jump::<A, _>(packet, Program::Receive)
}
