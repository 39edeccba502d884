//! What is counted: packets by exit, traffic by destination.

use crate::{
    kernel::{cpu, params},
    maps::{COUNTERS, EXITS},
};
use lvs_common::{
    abi::{Counters, DestId},
    exit::Exit,
};

/// Counts a packet by its exit. A packet that goes on to another program is counted there once more, by what becomes of it.
#[inline(always)]
pub fn exit(exit: Exit) {
    if let Some(count) = EXITS.get_ptr_mut(exit as u32) {
        // SAFETY: this CPU's own element.
        unsafe { *count += 1 }
    }
}

/// This CPU's counters of a destination.
#[inline(always)]
fn counters(dest: DestId) -> Option<*mut Counters> {
    COUNTERS.get_ptr_mut(cpu::number().wrapping_mul(params::dests()).wrapping_add(dest.get()))
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

/// Counts `bytes` more of a packet from a client to `dest` whose first fragment has been counted.
#[inline(always)]
pub fn rest_in(dest: DestId, bytes: u32) {
    if let Some(c) = counters(dest) {
        // SAFETY: as above.
        unsafe { (*c).in_bytes += bytes as u64 }
    }
}

/// The same for a reply from `dest`.
#[inline(always)]
pub fn rest_out(dest: DestId, bytes: u32) {
    if let Some(c) = counters(dest) {
        // SAFETY: as above.
        unsafe { (*c).out_bytes += bytes as u64 }
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
