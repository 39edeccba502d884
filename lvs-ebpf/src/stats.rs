//! What is counted: packets by exit, traffic by destination.

use crate::{
    kernel::{
        cpu, params,
        shared::{Shared, element, field},
    },
    maps::{COUNTERS, EXITS},
};
use lvs_common::{
    abi::{Counters, DestId, common_counters, own_counters},
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

/// How a counter is added to.
type Add = fn(Shared<u64>, u64);

/// Adds to a counter that only this CPU writes; nothing interrupts it with another packet.
#[inline(always)]
fn add_alone(counter: Shared<u64>, amount: u64) {
    counter.store(counter.load().wrapping_add(amount));
}

/// Adds to a counter that other CPUs add to as well.
#[inline(always)]
fn add_together(counter: Shared<u64>, amount: u64) {
    counter.fetch_add(amount);
}

/// Lends the counters of a destination: this CPU's, or those that all CPUs have together that the machine did not have at first.
#[inline(always)]
fn count(dest: DestId, work: impl Fn(Shared<Counters>, Add)) {
    if let Some(own) = element(&COUNTERS, own_counters(cpu::number(), params::dests(), dest)) {
        work(own, add_alone);
    } else if let Some(common) = element(&COUNTERS, common_counters(dest)) {
        work(common, add_together);
    }
}

/// Counts a packet of `bytes` from a client to `dest`.
#[inline(always)]
pub fn packet_in(dest: DestId, bytes: u32) {
    count(dest, |c, add| {
        add(field!(c.in_packets), 1);
        add(field!(c.in_bytes), bytes as u64);
    });
}

/// Counts a reply of `bytes` from `dest`.
#[inline(always)]
pub fn packet_out(dest: DestId, bytes: u32) {
    count(dest, |c, add| {
        add(field!(c.out_packets), 1);
        add(field!(c.out_bytes), bytes as u64);
    });
}

/// Counts `bytes` more of a packet from a client to `dest` whose first fragment has been counted.
#[inline(always)]
pub fn rest_in(dest: DestId, bytes: u32) {
    count(dest, |c, add| add(field!(c.in_bytes), bytes as u64));
}

/// The same for a reply from `dest`.
#[inline(always)]
pub fn rest_out(dest: DestId, bytes: u32) {
    count(dest, |c, add| add(field!(c.out_bytes), bytes as u64));
}

/// Counts a connection that was scheduled to `dest`.
#[inline(always)]
pub fn connection(dest: DestId) {
    count(dest, |c, add| add(field!(c.conns), 1));
}
