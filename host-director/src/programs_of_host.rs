//! The programs as functions of the host, made from their table in [`lvs_common::programs`], and those that it does not have.

use std::ffi::c_void;

use aya_ebpf::program::Program as Function;

use crate::maps::{TC_PROGRAMS, XDP_PROGRAMS};
use crate::packet::access::{TcPacket, XdpPacket};
use crate::{forward, log, rare, select, upkeep};

type V4 = u32;
type V6 = [u32; 4];

/// What is attached, or run by commands.
pub mod entry {
    use super::{Function, TcPacket, XdpPacket, c_void, forward, upkeep};

    macro_rules! entries {
        ($($(#[$doc:meta])* $name:ident = $packet:ident => $body:expr),+ $(,)?) => {
            $(
                $(#[$doc])*
                pub const $name: Function = |context: *mut c_void| ($body)($packet(context.cast()));
            )+
        };
    }

    entries! {
        /// `lvs_xdp`.
        XDP = XdpPacket => forward::xdp::frame,
        /// `lvs_ingress`.
        INGRESS = TcPacket => forward::tc::ingress,
        /// `lvs_egress`.
        EGRESS = TcPacket => forward::tc::egress,
        /// `lvs_import`.
        IMPORT = TcPacket => upkeep::enter::run,
        /// `lvs_drain`.
        DRAIN = TcPacket => upkeep::drain::run,
        /// `lvs_expel`.
        EXPEL = TcPacket => upkeep::expel::run,
        /// `lvs_start`.
        START = TcPacket => |_| upkeep::expire::start(),
    }
}

macro_rules! functions {
    ($($name:ident $meaning:literal {
        xdp [$($xdp:ident = $xdp_body:expr),*],
        tc [$($tc:ident = $tc_body:expr),*],
        to [$($to:ident),*],
    })+) => {
        /// Puts every program into the slots of the current kernel's program arrays.
        pub fn load() {
            $(
                let row = lvs_common::programs::Program::$name;
                let xdp: &[Function] = &[$(|context| ($xdp_body)(XdpPacket(context.cast()))),*];
                let tc: &[Function] = &[$(|context| ($tc_body)(TcPacket(context.cast()))),*];
                for is_v4 in [true, false] {
                    let of = |tier: &[Function]| tier.get(usize::from(!is_v4)).or(tier.first()).copied();
                    XDP_PROGRAMS.set(row.slot(is_v4), of(xdp));
                    TC_PROGRAMS.set(row.slot(is_v4), of(tc));
                }
            )+
        }
    };
}

lvs_common::for_each_program!(functions);
