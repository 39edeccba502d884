//! Ends the connections of a destination at once. Not attached anywhere: `lvsadm drain --reset` runs it over one part of the
//! connection tables after another.

use crate::table::store;
use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use lvs_common::{
    abi::{DestId, EntryKind, WAYS, conn_flags},
    table,
};

use crate::packet::control_block;
use crate::{
    config,
    kernel::atomics,
    packet::{access::TcPacket, parse::Family},
    table::release,
};

struct Ending {
    dest: DestId,
    from: u32,
    epoch: u64,
    /// The bucket at hand.
    bucket: u32,
    /// How many entries were taken out.
    ended: u32,
}

/// Takes out every connection of the destination, and every template that controls none (any more): how many. A template that
/// still does matches no more clients.
#[inline(always)]
pub fn run(packet: TcPacket) -> i32 {
    let Some(settings) = config::settings() else { return 0 };
    let (dest, from, count) = control_block::drain(packet);
    let mut e = Ending { dest, from, epoch: settings.epoch, bucket: 0, ended: 0 };
    // SAFETY: the callbacks get the structure they expect.
    unsafe {
        bpf_loop(count, visit::<u32> as *mut c_void, (&raw mut e).cast(), 0);
        bpf_loop(count, visit::<[u32; 4]> as *mut c_void, (&raw mut e).cast(), 0);
    }
    e.ended as i32
}

extern "C" fn visit<A: Family>(index: u64, context: *mut c_void) -> i64 {
    // SAFETY: `run` passed it.
    let e = unsafe { &mut *context.cast::<Ending>() };
    e.bucket = e.from.wrapping_add(index as u32);
    let Some(bucket) = store::bucket::<A>(e.bucket) else { return 1 };
    // SAFETY: a bucket of the map.
    if unsafe { (&raw const (*bucket).used).read_volatile() } != 0 {
        // SAFETY: the callback gets the structure it expects.
        unsafe { bpf_loop(WAYS, end::<A> as *mut c_void, context, 0) };
    }
    0
}

extern "C" fn end<A: Family>(way: u64, context: *mut c_void) -> i64 {
    // SAFETY: `visit` passed it on.
    let e = unsafe { &mut *context.cast::<Ending>() };
    let (way, at) = (way as u32, table::entry(e.bucket, way as u32));
    let Some(bucket) = store::bucket::<A>(e.bucket) else { return 1 };
    // SAFETY: a bucket of the map.
    if unsafe { table::tag_at(bucket, way) } == 0 {
        return 0;
    }
    let Some(connection) = store::entry::<A>(at) else { return 1 };
    let c = connection.get();
    let dest = e.dest;
    // An alias goes with its connection.
    if c.dest != dest || EntryKind::is_alias(c.kind) {
        return 0;
    }
    if c.kind == EntryKind::TEMPLATE {
        // If another CPU changes it at the same time, the next run does it.
        let state = connection.state_word();
        let _ = atomics::compare_exchange32(state, c.state, c.state | conn_flags::INVALID);
    }
    if release::remove(at, connection, e.epoch, |c| c.dest == dest && c.controlled == 0) {
        e.ended = e.ended.wrapping_add(1);
    }
    0
}
