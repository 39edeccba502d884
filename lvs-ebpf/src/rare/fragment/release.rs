//! The program that has the waiting fragments of a packet come in again, in order.

use lvs_common::{abi::IpAddress, exit::Exit};

use crate::{
    exits,
    packet::{access::TcPacket, fragment::Fragment},
    table::{fragments, reassemble},
};

/// The packet at hand is one of them.
#[inline(always)]
pub fn run<A: IpAddress>(packet: TcPacket) -> i32 {
    if let Some(fragment) = Fragment::read::<A>(packet)
        && let Some(known) = fragments::find(&fragment.key)
    {
        reassemble::release(packet, known);
    }
    exits::drop(packet, Exit::Held)
}
