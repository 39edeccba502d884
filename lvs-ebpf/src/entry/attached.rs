//! The programs that tail calls do not reach, by the names in [`lvs_common::programs::entry`]. The XDP program that is attached
//! to devices is also a program of the table.

use aya_ebpf::{
    EbpfContext as _,
    bindings::sk_action::SK_PASS,
    macros::{classifier, sk_lookup, xdp},
    programs::{SkLookupContext, TcContext, XdpContext},
};

use crate::{
    forward::tc,
    packet::access::{Packet as _, TcPacket, XdpPacket},
    upkeep,
};

/// Attached to devices: what comes in.
#[classifier]
pub fn lvs_ingress(ctx: TcContext) -> i32 {
    tc::ingress(TcPacket(ctx.as_ptr().cast()))
}

/// Attached to devices: what the director itself sends.
#[classifier]
pub fn lvs_egress(ctx: TcContext) -> i32 {
    tc::egress(TcPacket(ctx.as_ptr().cast()))
}

/// Lets every socket look-up pass. A link of this type reports when its network namespace is gone, where the kernel has no such
/// link for TC.
#[sk_lookup]
pub fn lvs_alive(_: SkLookupContext) -> u32 {
    SK_PASS
}

/// Attached nowhere: `lvsadm` runs it once to start the timer.
#[classifier]
pub fn lvs_start(_: TcContext) -> i32 {
    upkeep::expire::start()
}

/// Attached nowhere: `lvsadm` runs it to put connections into the table.
#[classifier]
pub fn lvs_import(ctx: TcContext) -> i32 {
    upkeep::enter::run(TcPacket(ctx.as_ptr().cast()))
}

/// Attached nowhere: `lvsadm` runs it when another generation of the data plane has taken over.
#[classifier]
pub fn lvs_stop(_: TcContext) -> i32 {
    upkeep::expire::stop()
}

/// Attached nowhere: `lvsadm` runs it to put connections of the generation before into the table.
#[classifier]
pub fn lvs_move(ctx: TcContext) -> i32 {
    upkeep::take_in::run(TcPacket(ctx.as_ptr().cast()))
}

/// In the next generation's array, while connections move there: packets of connections that it does not know.
#[classifier]
pub fn lvs_handed(ctx: TcContext) -> i32 {
    tc::take_over(TcPacket(ctx.as_ptr().cast()), false)
}

/// In the array of the generation before: packets that would open a connection there.
#[classifier]
pub fn lvs_returned(ctx: TcContext) -> i32 {
    tc::take_over(TcPacket(ctx.as_ptr().cast()), true)
}

/// In the array of XDP, while connections move: TC serves the packet.
#[xdp]
pub fn lvs_xdp_leave(_: XdpContext) -> u32 {
    XdpPacket::PASS as u32
}

/// Attached nowhere: `lvsadm drain --reset` runs it.
#[classifier]
pub fn lvs_drain(ctx: TcContext) -> i32 {
    upkeep::drain::run(TcPacket(ctx.as_ptr().cast()))
}

/// Attached nowhere: `lvsadm` runs it after a list of clients has changed.
#[classifier]
pub fn lvs_expel(ctx: TcContext) -> i32 {
    upkeep::expel::run(TcPacket(ctx.as_ptr().cast()))
}
