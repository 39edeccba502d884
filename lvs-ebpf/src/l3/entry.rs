//! The object's functions: those that are attached, by the names in [`lvs_common::programs::entry`], and the other object's that
//! tail calls reach.

use aya_ebpf::{EbpfContext as _, macros::classifier, programs::TcContext};

use crate::{forward::tc, packet::access::TcPacket};

#[path = "../entry/tail_tc.rs"]
mod tail_tc;

/// Attached to devices: what comes in.
#[classifier]
pub fn lvs_l3_ingress(ctx: TcContext) -> i32 {
    tc::ingress(TcPacket(ctx.as_ptr().cast()))
}

/// Attached to devices: what the director itself sends.
#[classifier]
pub fn lvs_l3_egress(ctx: TcContext) -> i32 {
    tc::egress(TcPacket(ctx.as_ptr().cast()))
}

/// In the next generation's array, while connections move there: packets of connections that it does not know.
#[classifier]
pub fn lvs_l3_handed(ctx: TcContext) -> i32 {
    tc::take_over(TcPacket(ctx.as_ptr().cast()), false)
}

/// In the array of the generation before: packets that would open a connection there.
#[classifier]
pub fn lvs_l3_returned(ctx: TcContext) -> i32 {
    tc::take_over(TcPacket(ctx.as_ptr().cast()), true)
}
