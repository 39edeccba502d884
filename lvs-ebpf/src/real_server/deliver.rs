//! Removing the outer headers and handing the inner packet to the stack.

use aya_ebpf::bindings::{
    BPF_F_ADJ_ROOM_DECAP_L3_IPV4, BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_INGRESS, TC_ACT_SHOT, TC_ACT_UNSPEC,
    bpf_adj_room_mode,
};
use aya_ebpf::helpers::{bpf_redirect, bpf_skb_change_tail};
use aya_ebpf::programs::TcContext;
use lvs_common::abi::AF_INET;
use lvs_common::wire::{ethertype, protocol};

use crate::inner::Inner;
use crate::outer::{self, ETHERNET, Outer};

/// `None` while the packet is still whole.
#[inline(always)]
pub fn deliver(ctx: &TcContext, outer: &Outer, inner: &Inner) -> Option<i32> {
    let removed = inner.offset - ETHERNET;
    if outer.family != inner.family && inner.length < 40 {
        shorten(ctx, removed)?
    } else {
        remove(ctx, removed, 0)?
    }
    if inner.is_big && restore_length(ctx).is_none() {
        return Some(TC_ACT_SHOT);
    }
    if outer.family == inner.family {
        return Some(TC_ACT_UNSPEC);
    }
    // The stack goes by `skb->protocol`, which a program can change only by letting the frame come in anew.
    let ether_type = if inner.family == AF_INET { ethertype::IPV4 } else { ethertype::IPV6 };
    if ctx.store(ETHERNET - 2, &ether_type, 0).is_err() {
        return Some(TC_ACT_SHOT);
    }
    // SAFETY: a helper that takes numbers.
    Some(unsafe { bpf_redirect(outer::fields(ctx).ifindex, BPF_F_INGRESS.into()) } as i32)
}

/// Puts the length of a packet of BIG TCP in a hop-by-hop header (RFC 2675), where the stack looks for it. The director takes it out,
/// so that devices can cut the packet in its tunnel.
#[inline(always)]
fn restore_length(ctx: &TcContext) -> Option<()> {
    const ADDED: usize = 8;
    ctx.adjust_room(ADDED as i32, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO.into()).ok()?;
    let mut header: [u32; 10] = ctx.load(ETHERNET + ADDED).ok()?;
    let [_, _, next, hop_limit] = header[1].to_ne_bytes();
    header[1] = u32::from_ne_bytes([0, 0, protocol::HOP_BY_HOP, hop_limit]);
    ctx.store(ETHERNET, &header, 0).ok()?;
    let length = ctx.len().wrapping_sub((ETHERNET + 40) as u32);
    ctx.store(ETHERNET + 40, &[u32::from_ne_bytes([next, 0, 0xc2, 4]), length.to_be()], 0).ok()
}

/// Removes `length` bytes after the Ethernet header.
#[inline(always)]
fn remove(ctx: &TcContext, length: usize, flags: u32) -> Option<()> {
    // Segments keep their size: it is that of the inner packets already.
    let flags = flags | BPF_F_ADJ_ROOM_FIXED_GSO;
    ctx.adjust_room(-(length as i32), bpf_adj_room_mode::BPF_ADJ_ROOM_MAC, flags.into()).ok()
}

/// Removes the outer headers of an IPv4 packet that is shorter than an IPv6 header. The kernel refuses to leave so little
/// of what came as IPv6, unless it is told (since Linux 6.3) what remains.
#[inline(always)]
fn shorten(ctx: &TcContext, length: usize) -> Option<()> {
    if remove(ctx, length, BPF_F_ADJ_ROOM_DECAP_L3_IPV4).is_some() {
        return Some(());
    }
    // Bytes after the inner packet are padding, which IP cuts off. The kernel adds none to a packet that the sending host
    // marked as encapsulated, but such a mark does not travel over a wire.
    // SAFETY: the context's pointer is the program's argument.
    if unsafe { bpf_skb_change_tail(ctx.skb.skb, ctx.len() + 40, 0) } != 0 {
        return None;
    }
    remove(ctx, length, 0)
}
