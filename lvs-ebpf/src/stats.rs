//! What is counted: packets by exit, traffic by destination.

use crate::{
    kernel::{
        cpu, params,
        shared::{Shared, element, field},
    },
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
fn counters(dest: DestId) -> Option<Shared<Counters>> {
    element(&COUNTERS, cpu::number().wrapping_mul(params::dests()).wrapping_add(dest.get()))
}

/// Adds to a counter that only this CPU writes; nothing interrupts it with another packet.
#[inline(always)]
fn add(counter: Shared<u64>, amount: u64) {
    counter.store(counter.load().wrapping_add(amount));
}

/// Counts a packet of `bytes` from a client to `dest`.
#[inline(always)]
pub fn packet_in(dest: DestId, bytes: u32) {
    if let Some(c) = counters(dest) {
        add(field!(c.in_packets), 1);
        add(field!(c.in_bytes), bytes as u64);
    }
}

/// Counts a reply of `bytes` from `dest`.
#[inline(always)]
pub fn packet_out(dest: DestId, bytes: u32) {
    if let Some(c) = counters(dest) {
        add(field!(c.out_packets), 1);
        add(field!(c.out_bytes), bytes as u64);
    }
}

/// Counts `bytes` more of a packet from a client to `dest` whose first fragment has been counted.
#[inline(always)]
pub fn rest_in(dest: DestId, bytes: u32) {
    if let Some(c) = counters(dest) {
        add(field!(c.in_bytes), bytes as u64);
    }
}

/// The same for a reply from `dest`.
#[inline(always)]
pub fn rest_out(dest: DestId, bytes: u32) {
    if let Some(c) = counters(dest) {
        add(field!(c.out_bytes), bytes as u64);
    }
}

/// Counts a connection that was scheduled to `dest`.
#[inline(always)]
pub fn connection(dest: DestId) {
    if let Some(c) = counters(dest) {
        add(field!(c.conns), 1);
    }
}
