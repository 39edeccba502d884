//! The connection table of a family: where its buckets and entries are, and their locks.

use crate::table::entry::Entry;
use crate::{
    kernel::{
        global::global_fn,
        loops::{self, KernelLoop, Turn},
        params,
        shared::{PerFamily, Shared, element, element_of, field},
    },
    maps::{BUCKETS4, BUCKETS6, CONNS4, CONNS6},
};
use lvs_common::{
    abi::{Bucket, Connection, IpAddress, WAYS},
    table::{self, Hash, PROBES, Store},
    verifier::Each,
};

/// Times a CPU tries to take a bucket's lock: about a microsecond, many times what its holder needs.
const LOCK_TRIES: u32 = 256;

/// Times a bucket's time is lowered against others that change it.
const DUE_TRIES: u32 = 8;

/// The connection table of a family.
pub struct Table;

impl Table {
    #[inline(always)]
    fn try_lock(bucket: Shared<Bucket>) -> bool {
        field!(bucket.lock).exchange(1) == 0 || wait(bucket) != 0
    }
}

global_fn! {
    /// Tries to take a bucket's lock for a while: 1 if it was taken.
    fn wait(bucket: Shared<Bucket>) -> u32 = wait_for_lock => take_lock
}

fn take_lock(bucket: Shared<Bucket>) -> u32 {
    let mut waiting = Waiting { bucket, taken: false };
    loops::repeat(LOCK_TRIES, &mut waiting);
    waiting.taken as u32
}

/// A CPU that waits for a bucket's lock.
struct Waiting {
    bucket: Shared<Bucket>,
    taken: bool,
}

impl Turn for Waiting {
    #[inline(always)]
    fn turn(&mut self, _: u32) -> bool {
        let bucket = self.bucket;
        self.taken = field!(bucket.lock).exchange(1) == 0;
        self.taken
    }
}

impl Each for Table {
    #[inline(always)]
    fn each<F: FnMut(u32) -> bool>(&self, times: u32, turn: &mut F) {
        KernelLoop.each(times, turn);
    }
}

impl<A: IpAddress> Store<A> for Table {
    #[inline(always)]
    fn buckets(&self) -> u32 {
        if A::IS_V4 { params::buckets4() } else { params::buckets6() }
    }
    #[inline(always)]
    fn bucket(&self, index: u32) -> Option<*mut Bucket> {
        bucket::<A>(index).map(Shared::as_ptr)
    }
    #[inline(always)]
    fn connection(&self, index: u32) -> Option<*mut Connection<A>> {
        connection::<A>(index).map(Shared::as_ptr)
    }
    #[inline(always)]
    fn lock(&self, bucket: *mut Bucket) -> bool {
        Table::try_lock(of_table(bucket))
    }
    #[inline(always)]
    fn unlock(&self, bucket: *mut Bucket) {
        let bucket = of_table(bucket);
        field!(bucket.lock).exchange(0);
    }
    #[inline(always)]
    fn add(&self, counter: *mut u32, amount: u32) {
        of_table(counter).fetch_add(amount);
    }
    #[inline(always)]
    fn lower_due(&self, bucket: *mut Bucket, due: u64) {
        lower_due(of_table(bucket), due);
    }
    #[inline(always)]
    fn barrier(&self, bucket: *mut Bucket) {
        let bucket = of_table(bucket);
        field!(bucket.lock).fetch_add(0);
    }
    #[inline(always)]
    fn probe_with_room(&self, hash: Hash) -> Option<u32> {
        let probe = probe_with_room::<A>(hash.0);
        if probe < PROBES { Some(probe) } else { None }
    }
    #[inline(always)]
    fn count_overflow(&self, hash: Hash, probe: u32, amount: u32) {
        count_overflow::<A>(hash.0, probe, amount);
    }
}

global_fn! {
    /// Which of its buckets, by the number of the probe, has room for a connection of this hash; [`PROBES`] if none has.
    pub fn probe_with_room<A>(hash: u64) -> u32 = probe_with_room4, probe_with_room6 => find_room
}

fn find_room<A: IpAddress>(hash: u64) -> u32 {
    table::probe_with_room::<A, Table>(&Table, Hash(hash)).unwrap_or(PROBES)
}

global_fn! {
    /// Adds `amount` to the overflow counts of the buckets before `probe`.
    fn count_overflow<A>(hash: u64, probe: u32, amount: u32) -> u32 = count_overflow4, count_overflow6 => add_overflow
}

fn add_overflow<A: IpAddress>(hash: u64, probe: u32, amount: u32) -> u32 {
    table::count_overflow::<A, Table>(&Table, Hash(hash), probe, amount);
    0
}

/// What the code that both sides share was given by [`Table`], and hands back: a bucket, a word of one, or an entry.
#[inline(always)]
pub fn of_table<T>(place: *mut T) -> Shared<T> {
    // SAFETY: `lvs_common::table` makes no pointers but of those that `Store` gives it, which lie in elements of maps.
    unsafe { Shared::new(place) }
}

/// Bucket `index` of a family's table.
#[inline(always)]
pub fn bucket<A: IpAddress>(index: u32) -> Option<Shared<Bucket>> {
    if A::IS_V4 { element(&BUCKETS4, index) } else { element(&BUCKETS6, index) }
}

/// Entry `index` of a family's table.
#[inline(always)]
pub fn entry<A: IpAddress>(index: u32) -> Option<Entry<A>> {
    connection(index).map(Entry::from)
}

/// The entry of a way of a bucket, and its index; `None` if the way is free.
#[inline(always)]
pub fn occupied<A: IpAddress>(index: u32, way: u32) -> Option<(u32, Entry<A>)> {
    let bucket = bucket::<A>(index)?;
    // SAFETY: a bucket of the table.
    if unsafe { table::tag_at(bucket.as_ptr(), way) } == 0 {
        return None;
    }
    let at = table::entry(index, way);
    Some((at, entry::<A>(at)?))
}

#[inline(always)]
fn connection<A: IpAddress>(index: u32) -> Option<Shared<Connection<A>>> {
    element_of::<A, Connections, _, _>(&CONNS4, &CONNS6, index)
}

/// Connections of each family.
pub struct Connections;

impl PerFamily for Connections {
    type Of<A: IpAddress> = Connection<A>;
}

/// Has a bucket swept at `due` at the latest.
#[inline(always)]
pub fn lower_due(bucket: Shared<Bucket>, due: u64) {
    if !try_lower_due(bucket, due) {
        keep_lowering(bucket, due);
    }
}

/// Lowers a bucket's time to `due` if it is later, unless another CPU changes it at this moment.
#[inline(always)]
fn try_lower_due(bucket: Shared<Bucket>, due: u64) -> bool {
    let field = field!(bucket.due);
    let old = field.load();
    old <= due || field.compare_exchange(old, due).is_ok()
}

global_fn! {
    /// Tries that a number of times.
    fn keep_lowering(bucket: Shared<Bucket>, due: u64) -> u32 = lower_bucket_due => lower_or_give_up
}

fn lower_or_give_up(bucket: Shared<Bucket>, due: u64) -> u32 {
    let _ = (0..DUE_TRIES).any(|_| try_lower_due(bucket, due));
    0
}

/// Has the bucket of entry `at` swept at `due` at the latest. In a full table the entry may give way before that.
#[inline(always)]
pub fn sweep_by<A: IpAddress>(at: u32, due: u64) {
    if let Some(bucket) = bucket::<A>(at / WAYS) {
        lower_due(bucket, due);
        field!(bucket.barren).store(0);
    }
}

/// Has entry `at` looked at in a full table, as it may give way from now on.
#[inline(always)]
pub fn may_give_way<A: IpAddress>(at: u32) {
    if let Some(bucket) = bucket::<A>(at / WAYS) {
        field!(bucket.barren).store(0);
    }
}
