//! The floors: the least that anything can cost.

use aya_ebpf::{
    bindings::xdp_action,
    btf_maps::LruHashMap,
    helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail},
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use lvs_common::{
    abi::bench::{FRAME, LOOKUPS},
    wire::{Ethernet, Ipv4, Udp, ethertype},
};

use crate::{RUN, frame::start};

/// A table with a 36-byte key, the size of an IPv6 connection's.
#[btf_map]
pub static LOOKUP: LruHashMap<[u32; 9], u64, { LOOKUPS as usize }> = LruHashMap::new();

/// Drops.
#[xdp]
pub fn floor_drop(_: XdpContext) -> u32 {
    xdp_action::XDP_DROP
}

/// Reads addresses and ports, exchanges the frame's addresses and sends it back.
#[xdp]
pub fn floor_parse_tx(ctx: XdpContext) -> u32 {
    const HEADERS: usize = size_of::<Ethernet>() + size_of::<Ipv4>() + size_of::<Udp>();
    let Some(frame) = start(ctx.ctx, HEADERS) else { return xdp_action::XDP_PASS };
    // SAFETY: `start` checked it.
    unsafe {
        let ethernet = frame as *mut Ethernet;
        let ip = (frame + size_of::<Ethernet>()) as *const Ipv4;
        let udp = (frame + size_of::<Ethernet>() + size_of::<Ipv4>()) as *const Udp;
        if (*ethernet).ethertype != ethertype::IPV4 || (*ip).destination == (*ip).source || (*udp).destination.is_zero()
        {
            return xdp_action::XDP_PASS;
        }
        core::mem::swap(&mut (*ethernet).source, &mut (*ethernet).destination);
    }
    xdp_action::XDP_TX
}

/// One look-up.
#[xdp]
pub fn floor_lookup(_: XdpContext) -> u32 {
    let Some(run) = RUN.get(0) else { return xdp_action::XDP_ABORTED };
    match LOOKUP.get_ptr([run.flow, 0, 0, 0, 0, 0, 0, 0, 0]) {
        Some(_) => xdp_action::XDP_DROP,
        None => xdp_action::XDP_ABORTED,
    }
}

/// Makes room for an IPv4 header.
#[xdp]
pub fn floor_grow(ctx: XdpContext) -> u32 {
    // SAFETY: a helper call with a valid context.
    match unsafe { bpf_xdp_adjust_head(ctx.ctx, -20) } {
        0 => xdp_action::XDP_TX,
        _ => xdp_action::XDP_ABORTED,
    }
}

/// Cuts off what is after the headers of TCP over IPv4.
#[xdp]
pub fn floor_shrink(ctx: XdpContext) -> u32 {
    const REST: i32 = FRAME as i32 - 54;
    // SAFETY: a helper call with a valid context.
    match unsafe { bpf_xdp_adjust_tail(ctx.ctx, -REST) } {
        0 => xdp_action::XDP_TX,
        _ => xdp_action::XDP_ABORTED,
    }
}
