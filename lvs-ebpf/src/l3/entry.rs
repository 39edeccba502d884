//! The object's functions: those that are attached, by the names in [`lvs_common::programs::entry`], and those that tail calls
//! reach, which have the same names as the other object's.

use aya_ebpf::{EbpfContext as _, macros::classifier, programs::TcContext};

use crate::{forward, forward::tc, log, packet::access::TcPacket, rare, select};

type V4 = u32;
type V6 = [u32; 4];

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

macro_rules! functions {
    ($($name:ident $meaning:literal {
        xdp [$($xdp:ident = $xdp_body:expr),*],
        tc [$($tc:ident = $tc_body:expr),*],
        to [$($to:ident),*],
    })+) => {
        $(
            $(
                #[doc = $meaning]
                #[classifier]
                pub fn $tc(ctx: TcContext) -> i32 {
                    ($tc_body)(TcPacket(ctx.as_ptr().cast()))
                }
            )*
        )+
    };
}

lvs_common::for_each_program!(functions);
