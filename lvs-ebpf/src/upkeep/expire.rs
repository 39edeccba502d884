//! The sweep: a timer visits a slice of the connection tables, the estimator's counters and the clock at a time.

use crate::packet::parse::Family;
use crate::table::store;
use crate::values::clock::SLICES;
use core::ffi::c_void;

use aya_ebpf::{
    bindings::bpf_timer,
    helpers::generated::{bpf_ktime_get_ns, bpf_loop, bpf_timer_init, bpf_timer_set_callback, bpf_timer_start},
};
use lvs_common::{
    abi::{Bucket, Connection, EntryKind, Settings, WAYS, conn_flags},
    table,
};

use crate::{
    config::{self, destination::DestRef},
    kernel::{atomics, clock, params},
    maps::{CLOCK, SETTINGS},
    table::{alias, find, release, reset_queue},
    upkeep::{defend, estimate},
    values::clock::Clock,
};

/// Between slices, ns.
const INTERVAL: u64 = 1_000_000_000 / SLICES;
/// Seconds a connection that controls others is kept on, as IPVS does; they stay its timeout.
const CONTROL_EXTENSION: u32 = 60;
/// `CLOCK_MONOTONIC`.
const CLOCK_MONOTONIC: u64 = 1;

/// Starts the timer; once, when `lvsadm` runs it.
#[inline(always)]
pub fn start() -> i32 {
    let Some(clock) = CLOCK.get_ptr_mut(0) else { return 1 };
    // SAFETY: an element of the map; the callback has the signature the kernel calls.
    unsafe {
        let timer: *mut bpf_timer = &raw mut (*clock).timer;
        // A second start finds the timer initialised.
        bpf_timer_init(timer, (&raw const CLOCK).cast_mut().cast(), CLOCK_MONOTONIC);
        if bpf_timer_set_callback(timer, tick as *mut c_void) != 0 {
            return 2;
        }
        tell_time(clock::jiffies());
        bpf_timer_start(timer, INTERVAL, 0) as i32
    }
}

/// Leaves the time for `lvsadm`, which cannot read jiffies itself.
#[inline(always)]
fn tell_time(now: u64) {
    if let Some(settings) = SETTINGS.get_ptr_mut(0) {
        // SAFETY: the timer alone writes these, once it runs.
        unsafe {
            (*settings).now = now;
            (*settings).now_ns = bpf_ktime_get_ns();
        }
    }
}

/// The timer's callback.
extern "C" fn tick(_map: *mut c_void, _key: *mut u32, clock: *mut Clock) -> i64 {
    let now = clock::jiffies();
    tell_time(now);
    let Some(settings) = SETTINGS.get_ptr_mut(0) else { return 0 };
    // SAFETY: elements of maps; the timer alone writes these.
    unsafe {
        let slice = (*clock).slice;
        let held = &raw mut (*clock).held;
        let thorough = is_thorough(settings, clock);
        (*held)[0] = (*held)[0].wrapping_add(sweep::<u32>(slice, params::buckets4(), now, thorough));
        (*held)[1] = (*held)[1].wrapping_add(sweep::<[u32; 4]>(slice, params::buckets6(), now, thorough));
        if slice % SLICES == SLICES - 1 {
            defend::each_second(settings, *held);
            *held = [0; 2];
        }
        let met = &raw mut (*clock).met;
        defend::thin::<u32>(settings, met, params::buckets4(), now);
        defend::thin::<[u32; 4]>(settings, met, params::buckets6(), now);
        estimate::slice(slice);
        (*clock).slice = slice.wrapping_add(1);
        bpf_timer_start(&raw mut (*clock).timer, INTERVAL, 0);
    }
    0
}

/// Slices for which the sweep looks at every entry after a removal of destinations: all of the table, and half of it again for
/// what another CPU's packets were doing meanwhile.
const THOROUGH: u32 = SLICES as u32 / 2 * 3;

/// Whether this slice of the sweep takes the connections of removed destinations out (`expire_nodest_conn`).
#[inline(always)]
fn is_thorough(settings: *mut Settings, clock: *mut Clock) -> bool {
    // SAFETY: elements of maps; the timer alone writes the clock.
    let (removal, epoch, clock) =
        unsafe { ((&raw const (*settings).removal).read_volatile(), (*settings).epoch, &mut *clock) };
    if removal == 0 || removal > epoch {
        return false;
    }
    if clock.removal != removal {
        clock.removal = removal;
        clock.thorough = THOROUGH;
    }
    if clock.thorough == 0 {
        // If a command removes others at this moment, the sweep begins anew.
        // SAFETY: as above.
        let _ = atomics::compare_exchange64(unsafe { &raw mut (*settings).removal }, removal, 0);
        clock.removal = 0;
        return false;
    }
    clock.thorough = clock.thorough.wrapping_sub(1);
    true
}

struct Sweep {
    from: u32,
    /// Entries met.
    held: u32,
    now: u64,
    /// Whether the connections of removed destinations are taken out.
    thorough: bool,
}

/// Whether an entry is of a destination that was removed.
#[inline(always)]
fn is_left<A>(c: &Connection<A>, epoch: u64) -> bool {
    DestRef::get(c.dest, epoch).is_some_and(|dest| !dest.available())
}

/// Takes template `at` out if its destination was removed and it controls no connection any more.
#[inline(always)]
fn remove_left<A: Family>(at: u32, epoch: u64) {
    let Some(template) = store::entry::<A>(at) else { return };
    let is_over = |c: &Connection<A>| c.kind == EntryKind::TEMPLATE && c.controlled == 0 && is_left(c, epoch);
    if is_over(&template) {
        release::remove(at, template, epoch, is_over);
    }
}

/// Visits the buckets of one slice: how many entries there are in them.
#[inline(always)]
fn sweep<A: Family>(slice: u64, buckets: u32, now: u64, thorough: bool) -> u32 {
    let share = |n: u64| ((buckets as u64 * n) / SLICES) as u32;
    let n = slice & (SLICES - 1);
    let mut s = Sweep { from: share(n), held: 0, now, thorough };
    // SAFETY: the callback gets the structure it expects.
    unsafe { bpf_loop(share(n + 1).wrapping_sub(s.from), visit::<A> as *mut c_void, (&raw mut s).cast(), 0) };
    s.held
}

extern "C" fn visit<A: Family>(index: u64, context: *mut c_void) -> i64 {
    // SAFETY: `sweep` passed it.
    let s = unsafe { &mut *context.cast::<Sweep>() };
    let index = s.from.wrapping_add(index as u32);
    let Some(bucket) = store::bucket::<A>(index) else { return 1 };
    // SAFETY: a bucket of the map.
    let (used, due) =
        unsafe { ((&raw const (*bucket).used).read_volatile(), (&raw const (*bucket).due).read_volatile()) };
    s.held = s.held.wrapping_add(used);
    if used != 0 && (due <= s.now || s.thorough) {
        clean::<A>(index, bucket, s);
    }
    0
}

struct Cleaning {
    bucket: u32,
    now: u64,
    epoch: u64,
    /// The earliest expiry of what stays.
    due: u64,
    thorough: bool,
}

/// Takes out what has expired in a bucket and notes when to come again.
#[inline(always)]
fn clean<A: Family>(index: u32, bucket: *mut Bucket, s: &Sweep) {
    // Whoever inserts or shortens a timeout from now on lowers it again.
    // SAFETY: a bucket of the map.
    atomics::exchange64(unsafe { &raw mut (*bucket).due }, u64::MAX);
    let epoch = config::settings().map_or(0, |s| s.epoch);
    let mut c = Cleaning { bucket: index, now: s.now, epoch, due: u64::MAX, thorough: s.thorough };
    // SAFETY: the callback gets the structure it expects.
    unsafe { bpf_loop(WAYS, check::<A> as *mut c_void, (&raw mut c).cast(), 0) };
    store::lower_due(bucket, c.due);
}

extern "C" fn check<A: Family>(way: u64, context: *mut c_void) -> i64 {
    // SAFETY: `clean` passed it.
    let s = unsafe { &mut *context.cast::<Cleaning>() };
    let way = way as u32;
    let (Some(bucket), at) = (store::bucket::<A>(s.bucket), table::entry(s.bucket, way)) else {
        return 1;
    };
    // SAFETY: a bucket of the map.
    if unsafe { table::tag_at(bucket, way) } == 0 {
        return 0;
    }
    let Some(connection) = store::entry::<A>(at) else { return 1 };
    let c = connection;
    if EntryKind::is_alias(c.kind) {
        alias::collect(at, c.get());
        return 0;
    }
    if s.thorough && is_left(&c, s.epoch) {
        let (epoch, control) = (s.epoch, c.control);
        if release::remove(at, connection, epoch, |c| c.controlled == 0 && is_left(c, epoch)) {
            if let Some(template) = control.get() {
                remove_left::<A>(template, epoch);
            }
            return 0;
        }
    }
    let now = s.now;
    if find::expired(&c, now) {
        if c.controlled != 0 {
            c.set_timeout(CONTROL_EXTENSION.wrapping_mul(params::hz()));
            c.touch(now);
        } else if !reset_queue::keep_for_reset(at, c, now) {
            let gone = release::remove(at, connection, s.epoch, |c| find::expired(c, now) && c.controlled == 0);
            if gone || c.state & conn_flags::DEAD != 0 {
                return 0;
            }
        }
    }
    let due = c.last_seen.wrapping_add(c.timeout as u64).wrapping_add(1);
    if due < s.due {
        s.due = due;
    }
    0
}
