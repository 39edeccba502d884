//! Decapsulation at a real server: tc ingress takes packets of a tunnel that the host has no device for, removes the outer
//! headers where they stand, and lets the packet for the virtual address go on up the stack.
//!
//! A packet is touched only if it is addressed to this host, comes in a tunnel that is configured, and carries a packet
//! for a configured virtual address; everything else passes as it came. An outer packet that is fragmented passes
//! too: the director keeps tunnel packets whole unless it is told otherwise (`pmtu_disc`).
#![no_std]
#![no_main]

mod congestion;
mod deliver;
mod inner;
mod outer;
mod remote_checksum;
mod tunnel;

use aya_ebpf::bindings::TC_ACT_UNSPEC;
use aya_ebpf::btf_maps::HashMap;
use aya_ebpf::macros::{btf_map, classifier};
use aya_ebpf::programs::TcContext;

use inner::Inner;
use outer::Outer;

/// The virtual addresses, by family and by [`lvs_common::abi::Address`]; the values mean nothing.
#[btf_map]
static VIPS: HashMap<[u32; 5], u32, 4096> = HashMap::new();

/// Decapsulates; whatever becomes of a packet, filters behind this one still see it.
#[classifier]
fn real_server(ctx: TcContext) -> i32 {
    decapsulate(&ctx).unwrap_or(TC_ACT_UNSPEC)
}

/// `None` leaves the packet as it is.
#[inline(always)]
fn decapsulate(ctx: &TcContext) -> Option<i32> {
    let outer = Outer::parse(ctx)?;
    let payload = tunnel::open(ctx, &outer)?;
    let inner = Inner::parse(ctx, &payload)?;
    VIPS.get_ptr(inner.vip)?;
    if !outer.is_for_this_host(ctx) {
        return None;
    }
    if let Some(remote) = payload.remote_checksum {
        remote_checksum::repair(ctx, &inner, remote)?;
    }
    if outer.congested && !congestion::mark(ctx, &inner) {
        return Some(aya_ebpf::bindings::TC_ACT_SHOT);
    }
    deliver::deliver(ctx, &outer, &inner)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
