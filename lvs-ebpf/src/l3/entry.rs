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
