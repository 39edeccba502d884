//! Out: a packet whose headers are done goes to its next hop.

use crate::{
    config::device::device,
    egress::route::{LOOPBACK, copy},
    exits,
    kernel::{
        redirect::{INGRESS, redirect, redirect_to_neighbour},
        wide,
    },
    packet::{
        access::{Packet, TcPacket, XdpPacket},
        tag::Tag,
    },
    values::route::{By, Route},
};
use core::mem::offset_of;

use aya_ebpf::bindings::{TC_ACT_REDIRECT, xdp_action};
use lvs_common::{
    abi::{NextHop, hop_flags},
    exit::Exit,
    wire::Ethernet,
};

/// Sends an XDP frame whose headers are done to `hop`. `TAGS`: the hop may be one of a VLAN.
#[inline(always)]
pub fn send_xdp<const TAGS: bool>(packet: XdpPacket, hop: &NextHop) -> i32 {
    if !set_macs(packet, hop) {
        return XdpPacket::DROP;
    }
    let mut out = hop.ifindex;
    if TAGS && hop.flags & hop_flags::XDP == 0 {
        let Some(vlan) = device(out) else { return XdpPacket::DROP };
        if !Tag::of(vlan.vlan).put_in(packet) {
            return XdpPacket::DROP;
        }
        out = vlan.parent;
    }
    if out == packet.device() && hop.flags & hop_flags::NO_TX == 0 {
        return xdp_action::XDP_TX as i32;
    }
    redirect(out, 0)
}

/// Sends a TC packet whose headers are done: straight to a neighbour that is known from the cache, else by the kernel's
/// neighbour output, which resolves and confirms neighbours.
#[inline(always)]
pub fn send_tc<P: Packet>(packet: P, route: &Route) -> i32 {
    if packet.put_link_header() { send_framed(packet, route) } else { P::DROP }
}

/// As [`send_tc`], a packet that has an Ethernet header for certain.
#[inline(always)]
pub fn send_framed<P: Packet>(packet: P, route: &Route) -> i32 {
    if route.family == 0 {
        if !set_macs(packet, &route.hop) {
            return P::DROP;
        }
        return redirect(route.hop.ifindex, 0);
    }
    redirect_to_neighbour(route.hop.ifindex, route.family, copy(&route.gateway).0)
}

/// Sends a finished packet from an address of the director's own: to the neighbour, or by the director's own stack.
#[inline(always)]
pub fn send_own<P: Packet>(packet: P, route: &Route) -> i32 {
    if route.by == By::Neighbour { send_tc(packet, route) } else { send_local(packet) }
}

/// Hands a rewritten packet to the network stack to be sent, which lowers its TTL: one with a source of the director's own by
/// [`send_local`], another's as it came in.
#[inline(always)]
pub fn hand_over(packet: TcPacket, has_own_source: bool) -> i32 {
    let is_own = has_own_source || packet.device() == 0;
    exits::leave(packet, Exit::Stack, if is_own { send_local(packet) } else { TcPacket::PASS })
}

/// Hands a packet to the director's own stack as if it came from the director: replies to a client that is the director
/// itself come from an address of its own, which only `lo` may do.
#[inline(always)]
pub fn send_local<P: Packet>(packet: P) -> i32 {
    // lo's address is all 0.
    if !packet.put_link_header() || !packet.write(0, [0u16; 6]) {
        return P::DROP;
    }
    match redirect(LOOPBACK, INGRESS) {
        TC_ACT_REDIRECT => TC_ACT_REDIRECT,
        _ => P::DROP,
    }
}

/// Writes the addresses of the Ethernet header, which come from a hop.
#[inline(always)]
fn set_macs<P: Packet>(packet: P, hop: &NextHop) -> bool {
    const {
        assert!(
            offset_of!(NextHop, destination) % 4 == 0
                && offset_of!(NextHop, source) == offset_of!(NextHop, destination) + 6
        )
    };
    const { assert!(offset_of!(Ethernet, destination) == 0 && offset_of!(Ethernet, source) == 6) };
    packet.update::<Ethernet>(0, |h| {
        // SAFETY: in both the source follows the destination, and in a hop they begin at a word.
        unsafe { wide::store_words((&raw const hop.destination).cast::<[u32; 3]>().read(), (&raw mut *h).cast()) }
    })
}
