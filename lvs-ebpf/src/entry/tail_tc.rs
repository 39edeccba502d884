//! The TC programs that tail calls reach, made from their table in [`lvs_common::programs`]: a line for each function, which calls
//! the function of the data plane that the table names.

use aya_ebpf::{EbpfContext as _, macros::classifier, programs::TcContext};

use crate::{forward, log, packet::access::TcPacket, rare, select};

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
            #[classifier]
            // A call within the program would take a share of its stack.
            #[inline(always)]
            pub fn $tc(ctx: TcContext) -> i32 {
                ($tc_body)(TcPacket(ctx.as_ptr().cast()))
            }
        )*)+
    };
}

lvs_common::for_each_program!(functions);
