//! The sweep: a timer visits a slice of the connection tables, the estimator's counters and the clock at a time.

use core::{ffi::c_void, marker::PhantomData};

use aya_ebpf::helpers::generated::{bpf_timer_cancel, bpf_timer_init, bpf_timer_set_callback, bpf_timer_start};
use lvs_common::abi::{Bucket, Connection, EntryKind, Settings, WAYS, afterwards, conn_flags};

use crate::{
    config::{self, destination::DestRef},
    kernel::{
        clock,
        loops::{Turn, repeat},
        params,
        shared::{Shared, element, field},
    },
    maps::{CLOCK, SETTINGS},
    packet::parse::Family,
    table::{alias, announce::announce, entry::Entry, find, release, reset_queue, store},
    upkeep::{defend, estimate},
    values::clock::{Clock, SLICES},
};

/// Between slices, ns.
const INTERVAL: u64 = 1_000_000_000 / SLICES;
/// Seconds that a connection which controls others lives on, as in IPVS; they become its timeout.
const CONTROL_EXTENSION: u32 = 60;
/// `CLOCK_MONOTONIC`.
const CLOCK_MONOTONIC: u64 = 1;

/// Starts the timer; once, when `lvsadm` runs it.
#[inline(always)]
pub fn start() -> i32 {
    let Some(clock) = element(&CLOCK, 0) else { return 1 };
    let timer = field!(clock.timer).as_ptr();
    // SAFETY: the timer is in an element of the map that is given with it, and the callback is of the kind that the kernel calls.
    let is_ready = unsafe {
        // A second start finds the timer initialised.
        bpf_timer_init(timer, (&raw const CLOCK).cast_mut().cast(), CLOCK_MONOTONIC);
        bpf_timer_set_callback(timer, tick as *mut c_void) == 0
    };
    if !is_ready {
        return 2;
    }
    publish_clock(clock::jiffies());
    start_timer(clock)
}

/// Stops the timer, and waits for a tick that runs.
#[inline(always)]
pub fn stop() -> i32 {
    let Some(clock) = element(&CLOCK, 0) else { return -1 };
    let timer = field!(clock.timer).as_ptr();
    // SAFETY: a timer in an element of a map; one that is not initialised is an error.
    unsafe { bpf_timer_cancel(timer) as i32 }
}

/// Has the timer tick after the interval.
#[inline(always)]
fn start_timer(clock: Shared<Clock>) -> i32 {
    let timer = field!(clock.timer).as_ptr();
    // SAFETY: a timer in an element of a map; one that is not initialised is an error.
    unsafe { bpf_timer_start(timer, INTERVAL, 0) as i32 }
}

/// Leaves the time for `lvsadm`, which cannot read jiffies itself. The timer alone writes it, once it runs.
#[inline(always)]
fn publish_clock(now: u64) {
    if let Some(settings) = element(&SETTINGS, 0) {
        field!(settings.now).store(now);
        field!(settings.now_ns).store(clock::nanoseconds());
    }
}

/// The timer's callback.
extern "C" fn tick(_map: *mut c_void, _key: *mut u32, clock: *mut Clock) -> i64 {
    // SAFETY: the kernel passes the element of `CLOCK` that the timer is in.
    let clock = unsafe { Shared::new(clock) };
    let now = clock::jiffies();
    publish_clock(now);
    let Some(settings) = element(&SETTINGS, 0) else { return 0 };
    let slice = field!(clock.slice).load();
    let held = field!(clock.held);
    let [mut v4, mut v6] = held.load();
    let thorough = is_thorough(settings, clock);
    v4 = v4.wrapping_add(sweep::<u32>(slice, params::buckets4(), now, thorough));
    v6 = v6.wrapping_add(sweep::<[u32; 4]>(slice, params::buckets6(), now, thorough));
    if slice % SLICES == SLICES - 1 {
        defend::each_second(settings, [v4, v6]);
        (v4, v6) = (0, 0);
    }
    held.store([v4, v6]);
    let met = field!(clock.met);
    defend::thin::<u32>(settings, met, params::buckets4(), now);
    defend::thin::<[u32; 4]>(settings, met, params::buckets6(), now);
    estimate::slice(slice);
    field!(clock.slice).store(slice.wrapping_add(1));
    start_timer(clock);
    0
}

/// Slices for which the sweep looks at every entry after a removal of destinations: all of the table, and half of it again for
/// what another CPU's packets were doing meanwhile.
const THOROUGH: u32 = SLICES as u32 / 2 * 3;

/// Whether this slice of the sweep removes the connections of removed destinations (`expire_nodest_conn`). The timer alone writes
/// the clock.
#[inline(always)]
fn is_thorough(settings: Shared<Settings>, clock: Shared<Clock>) -> bool {
    let removal = field!(settings.removal).load();
    if removal == 0 || removal > settings.get().epoch {
        return false;
    }
    if settings.get().sysctls.expire_nodest_conn == 0 {
        // Somebody has changed his mind: what is left stays.
        let _ = field!(settings.removal).compare_exchange(removal, 0);
        return false;
    }
    let (served, slices) = (field!(clock.removal), field!(clock.thorough));
    if served.load() != removal {
        served.store(removal);
        slices.store(THOROUGH);
    }
    let left = slices.load();
    if left == 0 {
        // If a command removes others at this moment, the sweep begins anew.
        let _ = field!(settings.removal).compare_exchange(removal, 0);
        served.store(0);
        return false;
    }
    slices.store(left.wrapping_sub(1));
    true
}

/// Whether an entry is of a destination that was removed.
#[inline(always)]
fn is_left<A>(c: &Connection<A>, epoch: u64) -> bool {
    DestRef::get(c.dest, epoch).is_some_and(|dest| !dest.available())
}

/// Removes template `at` if its destination was removed and it controls no connection any more.
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
    let mut s = Sweep::<A> { from: share(n), held: 0, now, thorough, family: PhantomData };
    repeat(share(n + 1).wrapping_sub(s.from), &mut s);
    s.held
}

/// A loop over the buckets of a slice.
struct Sweep<A> {
    from: u32,
    /// Entries met.
    held: u32,
    now: u64,
    /// Whether the connections of removed destinations are removed.
    thorough: bool,
    family: PhantomData<A>,
}

impl<A: Family> Turn for Sweep<A> {
    #[inline(always)]
    fn turn(&mut self, index: u32) -> bool {
        let index = self.from.wrapping_add(index);
        let Some(bucket) = store::bucket::<A>(index) else { return true };
        let (used, due) = (field!(bucket.used).load(), field!(bucket.due).load());
        self.held = self.held.wrapping_add(used);
        if used != 0 && (due <= self.now || self.thorough) {
            clean(index, bucket, self);
        }
        false
    }
}

/// Removes what has expired in a bucket, and sets when to come again.
#[inline(always)]
fn clean<A: Family>(index: u32, bucket: Shared<Bucket>, sweep: &Sweep<A>) {
    // Whoever inserts or shortens a timeout from now on lowers it again.
    field!(bucket.due).exchange(u64::MAX);
    let epoch = config::settings().map_or(0, |s| s.epoch);
    let Sweep { now, thorough, family, .. } = *sweep;
    let mut cleaning = Cleaning::<A> { bucket: index, now, epoch, due: u64::MAX, thorough, family };
    repeat(WAYS, &mut cleaning);
    store::lower_due(bucket, cleaning.due);
}

/// A loop over the entries of a bucket.
struct Cleaning<A> {
    bucket: u32,
    now: u64,
    epoch: u64,
    /// The earliest expiry of what stays.
    due: u64,
    thorough: bool,
    family: PhantomData<A>,
}

impl<A: Family> Turn for Cleaning<A> {
    #[inline(always)]
    fn turn(&mut self, way: u32) -> bool {
        if let Some((at, connection)) = store::occupied::<A>(self.bucket, way) {
            self.check(at, connection);
        }
        false
    }
}

impl<A: Family> Cleaning<A> {
    /// Removes an entry that has expired, or remembers when it will.
    #[inline(always)]
    fn check(&mut self, at: u32, c: Entry<A>) {
        if EntryKind::is_alias(c.kind) {
            alias::collect(at, c.get());
            return;
        }
        if self.thorough && is_left(&c, self.epoch) {
            let (epoch, control) = (self.epoch, c.control);
            if release::remove(at, c, epoch, |c| c.controlled == 0 && is_left(c, epoch)) {
                if let Some(template) = control.get() {
                    remove_left::<A>(template, epoch);
                }
                return;
            }
        }
        let now = self.now;
        if find::expired(&c, now) {
            if c.controlled != 0 {
                c.set_timeout(CONTROL_EXTENSION.wrapping_mul(params::hz()));
                c.touch(now);
                if let Some(settings) = config::settings()
                    && settings.afterwards & afterwards::ANNOUNCES != 0
                {
                    announce::<A>(at, c, settings, now);
                }
            } else if !reset_queue::keep_for_reset(at, c, now) {
                let is_gone = release::remove(at, c, self.epoch, |c| find::expired(c, now) && c.controlled == 0);
                if is_gone || c.state & conn_flags::DEAD != 0 {
                    return;
                }
            }
        }
        let due = c.last_seen.wrapping_add(c.timeout as u64).wrapping_add(1);
        if due < self.due {
            self.due = due;
        }
    }
}
