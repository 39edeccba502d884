//! The end of a packet's journey: its exit is counted, and logged where the log is on.

use lvs_common::exit::Exit;

use crate::{
    log,
    packet::{access::Packet, access::TcPacket},
    stats,
};

/// Ends a program whose packet leaves by `exit` with this verdict.
#[inline(always)]
pub fn leave<P: Packet>(packet: P, exit: Exit, verdict: i32) -> i32 {
    stats::exit(exit);
    log::exit(packet, exit, verdict)
}

/// Drops a packet for a reason.
#[inline(always)]
pub fn drop<P: Packet>(packet: P, exit: Exit) -> i32 {
    leave(packet, exit, P::DROP)
}

/// Leaves a packet to the stack. In XDP that is to TC, which counts the packet, so XDP does not.
#[inline(always)]
pub fn pass<P: Packet>(packet: P, exit: Exit) -> i32 {
    match packet.in_tc() {
        Ok(packet) => leave(packet, exit, TcPacket::PASS),
        Err(verdict) => verdict,
    }
}
