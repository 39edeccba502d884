//! Out: a packet whose headers are done goes to its next hop.

use crate::{
    egress::route::{LOOPBACK, copy, copy_mac},
    packet::access::Packet,
    values::route::Route,
};
use aya_ebpf::{
    bindings::{TC_ACT_REDIRECT, bpf_redir_neigh, bpf_redir_neigh__bindgen_ty_1, xdp_action},
    helpers::generated::{bpf_redirect, bpf_redirect_neigh},
};
use lvs_common::{
    abi::{NextHop, hop_flags},
    wire::Ethernet,
};

/// `BPF_F_INGRESS`.
pub const INGRESS: u64 = 1;

/// Sends an XDP frame whose headers are done to `hop`.
#[inline(always)]
pub fn send_xdp<P: Packet>(packet: P, hop: &NextHop) -> i32 {
    let Some(ethernet) = packet.at::<Ethernet>(0) else { return P::DROP };
    // SAFETY: checked by `at`.
    unsafe {
        copy_mac(&hop.destination, &raw mut (*ethernet).destination);
        copy_mac(&hop.source, &raw mut (*ethernet).source);
    }
    if hop.ifindex == packet.device() && hop.flags & hop_flags::NO_TX == 0 {
        return xdp_action::XDP_TX as i32;
    }
    // SAFETY: a helper call.
    unsafe { bpf_redirect(hop.ifindex, 0) as i32 }
}

/// Sends a TC packet whose headers are done: straight to a neighbour that is known from the cache, else by the kernel's
/// neighbour output, which resolves and confirms neighbours.
#[inline(always)]
pub fn send_tc<P: Packet>(packet: P, route: &Route) -> i32 {
    if route.family == 0 {
        let Some(ethernet) = packet.at::<Ethernet>(0) else { return P::DROP };
        // SAFETY: checked by `at`; a helper call.
        unsafe {
            copy_mac(&route.hop.destination, &raw mut (*ethernet).destination);
            copy_mac(&route.hop.source, &raw mut (*ethernet).source);
            return bpf_redirect(route.hop.ifindex, 0) as i32;
        }
    }
    // An IPv4 address stands in the first word.
    let gateway = bpf_redir_neigh__bindgen_ty_1 { ipv6_nh: copy(&route.gateway).0 };
    let mut to = bpf_redir_neigh { nh_family: route.family as u32, __bindgen_anon_1: gateway };
    // SAFETY: a helper call; the kernel is told the structure's size.
    unsafe { bpf_redirect_neigh(route.hop.ifindex, &mut to, size_of::<bpf_redir_neigh>() as i32, 0) as i32 }
}

/// Hands a packet to the director's own stack as if it came from the director: replies to a client that is the director
/// itself come from an address of its own, which only `lo` may do.
#[inline(always)]
pub fn send_local<P: Packet>(packet: P) -> i32 {
    let Some(ethernet) = packet.at::<Ethernet>(0) else { return P::DROP };
    // SAFETY: checked by `at`; lo's address is all 0.
    unsafe {
        copy_mac(&[0; 6], &raw mut (*ethernet).destination);
        copy_mac(&[0; 6], &raw mut (*ethernet).source);
    }
    // SAFETY: a helper call.
    match unsafe { bpf_redirect(LOOPBACK, INGRESS) as i32 } {
        TC_ACT_REDIRECT => TC_ACT_REDIRECT,
        _ => P::DROP,
    }
}
