//! Out: a packet whose headers are done goes to its next hop.

use crate::{
    egress::route::{LOOPBACK, copy, copy_mac},
    exits,
    kernel::redirect::{INGRESS, redirect, redirect_to_neighbour},
    packet::{access::Packet, access::TcPacket},
    values::route::{By, Route},
};
use aya_ebpf::bindings::{TC_ACT_REDIRECT, xdp_action};
use lvs_common::{
    abi::{NextHop, hop_flags},
    exit::Exit,
    wire::Ethernet,
};

/// Sends an XDP frame whose headers are done to `hop`.
#[inline(always)]
pub fn send_xdp<P: Packet>(packet: P, hop: &NextHop) -> i32 {
    if !set_macs(packet, &hop.destination, &hop.source) {
        return P::DROP;
    }
    if hop.ifindex == packet.device() && hop.flags & hop_flags::NO_TX == 0 {
        return xdp_action::XDP_TX as i32;
    }
    redirect(hop.ifindex, 0)
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
        if !set_macs(packet, &route.hop.destination, &route.hop.source) {
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
fn set_macs<P: Packet>(packet: P, destination: &[u8; 6], source: &[u8; 6]) -> bool {
    packet.update::<Ethernet>(0, |h| {
        // SAFETY: both begin at even addresses, in a hop and in an Ethernet header.
        unsafe {
            copy_mac(destination, &raw mut h.destination);
            copy_mac(source, &raw mut h.source);
        }
    })
}
