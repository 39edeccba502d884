//! The defence strategies, in the sweep's timer: once a second they see how much room there is, and `drop_entry` at work
//! makes some.

use crate::table::store;
use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_loop};
use lvs_common::{
    abi::{Connection, EntryKind, Settings, WAYS, conn_flags, service_flags},
    defence::{self, Candidate, Met, Room},
    table,
};

use crate::{
    config::{destination::DestRef, service},
    kernel::params,
    packet::parse::Family,
    table::release,
    values::clock::SLICES,
};

/// The share of the table that `drop_entry` looks at in a second, as IPVS does.
const SHARE: u32 = 32;
/// Seconds without a packet after which a connection is idle.
const IDLE: u32 = 60;

/// Sets the strategies for the second to come. `held` is how many entries the tables of both families have.
#[inline(always)]
pub fn each_second(settings: *mut Settings, held: [u32; 2]) {
    // SAFETY: an element of the map. The timer alone writes these, but for what a command changes, which counts a second
    // later at most.
    unsafe {
        let sysctls = &raw mut (*settings).sysctls;
        let amemthresh = (*sysctls).amemthresh;
        let room = |buckets: u32, held, size| Room::of(held, buckets * WAYS / 4 * 3, size, amemthresh);
        let v4 = room(params::buckets4(), held[0], size_of::<Connection<u32>>() as u32);
        let v6 = room(params::buckets6(), held[1], size_of::<Connection<[u32; 4]>>() as u32);
        let (scarce, worst) = (v4.is_scarce() || v6.is_scarce(), if v4.is_scarce() { v4 } else { v6 });
        let advance = |mode: *mut u32| {
            let next = defence::next(mode.read_volatile(), scarce);
            if mode.read_volatile() != next {
                mode.write_volatile(next);
            }
            next
        };
        advance(&raw mut (*sysctls).drop_entry);
        advance(&raw mut (*sysctls).secure_tcp);
        let mode = advance(&raw mut (*sysctls).drop_packet);
        (*settings).drop_rate = defence::drop_rate(mode, worst, (*sysctls).am_droprate);
        (*settings).held = held;
    }
}

struct Thinning {
    settings: *mut Settings,
    met: *mut Met,
    now: u64,
    buckets: u32,
    /// The bucket at hand.
    bucket: u32,
}

/// Takes out what is of least use in some buckets of a family, if `drop_entry` is at work: a slice of a second's share.
#[inline(always)]
pub fn thin<A: Family>(settings: *mut Settings, met: *mut Met, buckets: u32, now: u64) {
    // SAFETY: an element of the map.
    if !defence::works(unsafe { (*settings).sysctls.drop_entry }) {
        return;
    }
    let mut t = Thinning { settings, met, now, buckets, bucket: 0 };
    // SAFETY: the callback gets the structure it expects.
    unsafe { bpf_loop(buckets / SHARE / SLICES as u32 + 1, visit::<A> as *mut c_void, (&raw mut t).cast(), 0) };
}

extern "C" fn visit<A: Family>(_: u64, context: *mut c_void) -> i64 {
    // SAFETY: `thin` passed it.
    let t = unsafe { &mut *context.cast::<Thinning>() };
    // SAFETY: a helper without arguments.
    t.bucket = ((unsafe { bpf_get_prandom_u32() } as u64 * t.buckets as u64) >> 32) as u32;
    // SAFETY: the callback gets the structure it expects.
    unsafe { bpf_loop(WAYS, consider::<A> as *mut c_void, context, 0) };
    0
}

extern "C" fn consider<A: Family>(way: u64, context: *mut c_void) -> i64 {
    // SAFETY: `visit` passed it on.
    let t = unsafe { &mut *context.cast::<Thinning>() };
    let at = table::entry(t.bucket, way as u32);
    let Some(bucket) = store::bucket::<A>(t.bucket) else { return 1 };
    // SAFETY: a bucket of the map.
    if unsafe { table::tag_at(bucket, way as u32) } == 0 {
        return 0;
    }
    let Some(connection) = store::entry::<A>(at) else { return 1 };
    // SAFETY: elements of maps.
    let (c, epoch) = unsafe { (&*connection, (*t.settings).epoch) };
    if c.controlled != 0 || c.kind.is_alias() || c.state & conn_flags::DEAD != 0 {
        return 0;
    }
    let template = c.kind == EntryKind::TEMPLATE;
    let candidate = Candidate {
        protocol: c.protocol,
        state: (c.state & conn_flags::STATE) as u8,
        in_packets: c.in_packets,
        idle: t.now.wrapping_sub(c.last_seen) >= (IDLE * params::hz()) as u64,
        template,
        assured: c.state & conn_flags::ASSURED != 0,
        one_packet: template && is_one_packet(c, epoch),
    };
    // SAFETY: the timer's own element.
    let goes = defence::takes_out(&candidate, unsafe { &mut *t.met });
    if goes && release::remove(at, connection, epoch, |c| c.controlled == 0) {
        // SAFETY: the timer alone writes it.
        unsafe { (*t.settings).taken_out = (*t.settings).taken_out.wrapping_add(1) };
    }
    0
}

/// Whether a template is of a one-packet service.
#[inline(always)]
fn is_one_packet<A>(c: &Connection<A>, epoch: u64) -> bool {
    let Some(dest) = DestRef::get(c.dest, epoch) else { return false };
    let Some(service) = service::ServiceRef::get(dest.service(), epoch) else { return false };
    service.config().flags & service_flags::ONE_PACKET != 0
}
