//! Tunnel packets that arrive in fragments: they wait until all have come, and are opened as one.

use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::programs::TcContext;
use lvs_common::abi::IpAddress;
use lvs_common::byte_order::Be16;
use lvs_common::fragments::JOINED;
use lvs_common::verifier::opaque;
use lvs_common::wire::protocol;

use crate::outer::{ETHERNET, is_for_this_host};
use crate::packet::access::{Packet, TcPacket};
use crate::packet::fragment::Fragment;
use crate::table::fragments::{self, Kept, Known, State};
use crate::table::reassemble;
use crate::tunnel;
use crate::values::parsed::OFFSETS;

/// Whether a frame holds a fragment, and of which family.
#[inline(always)]
pub fn is_fragment(ctx: &TcContext, v4: bool) -> bool {
    if v4 {
        const MORE_OR_OFFSET: u16 = 0x3fff;
        ctx.load::<u16>(ETHERNET + 6).is_ok_and(|field| u16::from_be(field) & MORE_OR_OFFSET != 0)
    } else {
        ctx.load::<u8>(ETHERNET + 6).is_ok_and(|next| next == protocol::FRAGMENT)
    }
}

/// Has a fragment wait. `None` once the packet at hand is the whole one; otherwise the verdict on the fragment.
#[inline(always)]
pub fn gather<A: IpAddress>(ctx: &TcContext) -> Option<i32> {
    let packet = TcPacket(ctx.skb.skb);
    let Some(fragment) = Fragment::read::<A>(packet) else { return Some(TC_ACT_UNSPEC) };
    let carried = fragment.key.protocol as u8;
    if !fragment.is_sound(packet)
        || !tunnel::may_carry(carried)
        || !is_for_this_host(ctx, A::FAMILY, carried, fragment.key.source.0, fragment.key.destination.0)
    {
        return Some(TC_ACT_UNSPEC);
    }
    let Some(known) = fragments::open(&fragment.key) else { return Some(TC_ACT_UNSPEC) };
    let is_first = fragment.part.offset == 0;
    if known.is(State::Passed) || is_first && carried == protocol::UDP && !is_tunnel(packet, &fragment) {
        known.set(State::Passed);
        return Some(pass(packet, &fragment, known));
    }
    if known.refusal().is_some() {
        return Some(TC_ACT_SHOT);
    }
    match known.hold(packet, &fragment) {
        Kept::Complete if known.total() <= JOINED => match reassemble::join::<A>(packet, &fragment, known) {
            Some(_) => None,
            None => Some(TC_ACT_SHOT),
        },
        Kept::Complete => {
            // Longer than a program can join.
            known.set(State::Passed);
            reassemble::release(packet, known);
            Some(TC_ACT_SHOT)
        }
        Kept::Waiting | Kept::Refused(_) => Some(TC_ACT_SHOT),
    }
}

/// Whether the first fragment of a UDP datagram is for the port of a tunnel.
#[inline(always)]
fn is_tunnel(packet: TcPacket, fragment: &Fragment) -> bool {
    let at = opaque(fragment.at) as usize & OFFSETS;
    packet.read::<[Be16; 2]>(at).is_some_and(|[_, port]| tunnel::has_port(port.word()))
}

/// Leaves a fragment to the stack, and those that waited for it.
#[inline(always)]
fn pass(packet: TcPacket, fragment: &Fragment, known: Known) -> i32 {
    if known.has_waiting() {
        if let Kept::Waiting | Kept::Complete = known.hold(packet, fragment) {
            reassemble::release(packet, known);
        }
        return TC_ACT_SHOT;
    }
    if known.count(&fragment.part) {
        fragments::forget(&fragment.key);
    }
    TC_ACT_UNSPEC
}
