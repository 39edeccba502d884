//! Decapsulation at a real server: tc ingress takes packets of a tunnel that the host has no device for, removes the outer
//! headers where they stand, and lets the packet for the virtual address go on up the stack.
//!
//! A packet is touched only if it is addressed to this host, comes in a tunnel that is configured, and carries a packet
//! for a configured virtual address; everything else passes as it came. Fragments of outer packets wait until all have come, in
//! the way that the director's do, by the same code.
#![no_std]
#![no_main]
#![allow(internal_features, reason = "core has no atomics for bpf but the intrinsics")]
#![allow(clippy::needless_borrows_for_generic_args, reason = "what is lent to a map is not copied to the stack first")]
#![allow(missing_docs, reason = "a program has no public interface; items are documented where they need it")]
#![feature(asm_experimental_arch, core_intrinsics, stmt_expr_attributes)]

mod congestion;
mod deliver;
mod fragments;
mod inner;
mod maps;
mod outer;
mod remote_checksum;
mod segment_size;
mod segments;
mod stats;
mod tunnel;
mod vips;

#[path = "../kernel/mod.rs"]
#[allow(dead_code, unused_imports, unused_macros, reason = "the director uses the rest")]
mod kernel;
#[path = "../link/ethernet.rs"]
mod link;
#[allow(dead_code, reason = "the director uses the rest")]
mod packet;
#[allow(dead_code, reason = "the director uses the rest")]
mod table;
#[allow(dead_code, reason = "the director uses the rest")]
mod values;

use aya_ebpf::bindings::TC_ACT_UNSPEC;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use lvs_common::abi::{AF_INET, AF_INET6, IpAddress};

use inner::Inner;
use outer::Outer;
use vips::VIPS;

/// Decapsulates; whatever becomes of a packet, filters after this one still see it.
#[classifier]
fn real_server(mut ctx: TcContext) -> i32 {
    let verdict = match outer::family(&ctx) {
        Some(AF_INET) if fragments::is_fragment(&ctx, true) => gather::<u32>(&ctx),
        Some(AF_INET6) if fragments::is_fragment(&ctx, false) => gather::<[u32; 4]>(&ctx),
        Some(_) => WHOLE,
        None => TC_ACT_UNSPEC,
    };
    if verdict == WHOLE { open(&mut ctx) } else { verdict }
}

/// No verdict: the packet at hand is a whole one.
const WHOLE: i32 = i32::MAX;

/// [`fragments::gather`] as a function of its own: its room on the stack is a call's. The result is a number, as a caller gets no
/// pointer to a callee's stack.
#[inline(never)]
fn gather<A: IpAddress>(ctx: &TcContext) -> i32 {
    fragments::gather::<A>(ctx).unwrap_or(WHOLE)
}

/// [`decapsulate`], likewise.
#[inline(never)]
fn open(ctx: &mut TcContext) -> i32 {
    decapsulate(ctx).unwrap_or(TC_ACT_UNSPEC)
}

/// On `lo`: sends on what [`segments::cut`] sent there.
#[classifier]
fn real_server_segments(mut ctx: TcContext) -> i32 {
    segments::come_in(&mut ctx)
}

/// Lowers the segment size that the host's TCP tells clients of a virtual address.
#[classifier]
fn real_server_replies(ctx: TcContext) -> i32 {
    // A packet that is not changed goes as it is.
    let _ = segment_size::lower(&ctx);
    TC_ACT_UNSPEC
}

/// `None` leaves the packet as it is.
#[inline(always)]
fn decapsulate(ctx: &mut TcContext) -> Option<i32> {
    let outer = Outer::parse(ctx)?;
    let payload = tunnel::open(ctx, &outer)?;
    let inner = Inner::parse(ctx, &payload)?;
    let taken = VIPS.get_ptr_mut(inner.vip)?;
    if !outer.is_for_this_host(ctx) {
        return None;
    }
    segment_size::note(taken, inner.offset);
    if segments::is_buffer(ctx, &outer, &inner) {
        return Some(segments::cut(ctx));
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
