//! Counting: exits by reason, traffic by destination.

use lvs_common::exit::Exit;

use crate::{log, maps::EXITS, packet::access::Packet};

/// Ends a program whose packet leaves by `exit` with this verdict: counts it.
#[inline(always)]
pub fn leave<P: Packet>(packet: P, exit: Exit, verdict: i32) -> i32 {
    count(exit);
    log::end(packet, exit, verdict)
}

/// Drops a packet for a reason.
#[inline(always)]
pub fn drop<P: Packet>(packet: P, exit: Exit) -> i32 {
    leave(packet, exit, P::DROP)
}

/// Leaves a packet to the stack, in XDP to TC: that counts it then, so that it is counted once.
#[inline(always)]
pub fn pass<P: Packet>(packet: P, exit: Exit) -> i32 {
    if P::COMPLETE { leave(packet, exit, P::PASS) } else { P::PASS }
}

/// Counts a packet by `exit` that goes on to a program which counts it again, by what becomes of it.
#[inline(always)]
pub fn count(exit: Exit) {
    if let Some(count) = EXITS.get_ptr_mut(exit as u32) {
        // SAFETY: this CPU's own element.
        unsafe { *count += 1 }
    }
}
