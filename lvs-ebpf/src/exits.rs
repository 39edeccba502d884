//! Counting: exits by reason, traffic by destination.

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use lvs_common::{
    abi::{Counters, DestId},
    exit::Exit,
};

use crate::{
    kernel::params,
    log,
    maps::{COUNTERS, EXITS},
    packet::access::Packet,
};

/// Ends a program whose packet leaves by `exit` with this verdict: counts it.
#[inline(always)]
pub fn leave<P: Packet>(packet: P, exit: Exit, verdict: i32) -> i32 {
    note(exit);
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
pub fn note(exit: Exit) {
    if let Some(count) = EXITS.get_ptr_mut(exit as u32) {
        // SAFETY: this CPU's own element.
        unsafe { *count += 1 }
    }
}

/// This CPU's number.
#[inline(always)]
pub fn cpu() -> u32 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_get_smp_processor_id() }
}

/// This CPU's counters of a destination.
#[inline(always)]
fn counters(dest: DestId) -> Option<*mut Counters> {
    COUNTERS.get_ptr_mut(cpu().wrapping_mul(params::dests()).wrapping_add(dest))
}

/// Counts a packet of `bytes` from a client to `dest`.
#[inline(always)]
pub fn packet_in(dest: DestId, bytes: u32) {
    if let Some(c) = counters(dest) {
        // SAFETY: only this CPU writes this element, and nothing interrupts it with another packet.
        unsafe {
            (*c).in_packets += 1;
            (*c).in_bytes += bytes as u64;
        }
    }
}

/// Counts a reply of `bytes` from `dest`.
#[inline(always)]
pub fn packet_out(dest: DestId, bytes: u32) {
    if let Some(c) = counters(dest) {
        // SAFETY: as above.
        unsafe {
            (*c).out_packets += 1;
            (*c).out_bytes += bytes as u64;
        }
    }
}

/// Counts a connection that was scheduled to `dest`.
#[inline(always)]
pub fn connection(dest: DestId) {
    if let Some(c) = counters(dest) {
        // SAFETY: as above.
        unsafe { (*c).conns += 1 }
    }
}
