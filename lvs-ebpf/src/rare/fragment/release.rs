//! The fragments of a packet that wait come in again, in order.

use lvs_common::{abi::IpAddress, exit::Exit, fragments::FRAGMENTS};

use crate::{
    exits,
    kernel::{loops::repeat, redirect::INGRESS},
    packet::{
        access::{Packet, TcPacket},
        fragment::Fragment,
    },
    table::fragments::{self, List, Waiting},
};

/// The program: the packet at hand, one of the fragments that wait, is made each of them in turn, and a copy of it comes in.
#[inline(always)]
pub fn run<A: IpAddress>(packet: TcPacket) -> i32 {
    if let Some(fragment) = Fragment::read::<A>(packet)
        && let Some(known) = fragments::find(&fragment.key)
    {
        let list = known.take();
        if packet.renew() {
            release(packet, list);
        }
    }
    exits::drop(packet, Exit::Held)
}

#[inline(always)]
fn release(packet: TcPacket, list: List) {
    let (mut from, device) = (0, packet.device());
    repeat(FRAGMENTS, &mut |_| {
        let Some(waiting) = list.next(from) else { return true };
        from = waiting.offset().wrapping_add(1);
        if write(packet, waiting) {
            packet.clone_redirect(device, INGRESS);
        }
        false
    });
    list.free();
}

/// Makes the packet a fragment that waits, as it came in.
#[inline(always)]
fn write(packet: TcPacket, waiting: Waiting) -> bool {
    let at = waiting.at();
    packet.change_tail(at.wrapping_add(waiting.length()))
        && waiting.write_headers(packet, at)
        && waiting.write_payload(packet, at)
}
