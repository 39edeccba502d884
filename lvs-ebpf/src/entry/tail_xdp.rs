//! The XDP programs that tail calls reach, made from their table in [`lvs_common::programs`]: a line for each function, which calls
//! the function of the data plane that the table names.

use aya_ebpf::{macros::xdp, programs::XdpContext};

#[allow(unused_imports, reason = "the table names the modules of the TC programs, too")]
use crate::{forward, log, packet::access::XdpPacket, rare, select};

type V4 = u32;
type V6 = [u32; 4];

macro_rules! functions {
    ($($name:ident $meaning:literal {
        xdp [$($xdp:ident = $xdp_body:expr),*],
        tc [$($tc:ident = $tc_body:expr),*],
        to [$($to:ident),*],
    })+) => {
        $($(
            #[doc = $meaning]
            #[xdp]
            // A call within the program would take a share of its stack.
            #[inline(always)]
            pub fn $xdp(ctx: XdpContext) -> u32 {
                ($xdp_body)(XdpPacket(ctx.ctx)) as u32
            }
        )*)+
    };
}

lvs_common::for_each_program!(functions);
