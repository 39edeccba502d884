//! The connection table of a family: where its buckets and entries are, and their locks.

use crate::table::entry::Entry;
use crate::{
    kernel::{
        atomics,
        global::global_fn,
        loops::{self, KernelLoop, Turn},
        params,
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
    fn try_lock(bucket: *mut Bucket) -> bool {
        // SAFETY: a bucket of the map.
        if atomics::exchange32(unsafe { &raw mut (*bucket).lock }, 1) == 0 {
            return true;
        }
        wait(bucket) != 0
    }
}

/// Tries to take a bucket's lock for a while. Of global linkage, as [`advance`](crate::table::advance)'s are.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn wait(bucket: *mut Bucket) -> u32 {
    if bucket.is_null() {
        return 0;
    }
    let mut waiting = Waiting { bucket, taken: false };
    loops::repeat(LOCK_TRIES, &mut waiting);
    waiting.taken as u32
}

/// A CPU that waits for a bucket's lock.
struct Waiting {
    bucket: *mut Bucket,
    taken: bool,
}

impl Turn for Waiting {
    #[inline(always)]
    fn turn(&mut self, _: u32) -> bool {
        // SAFETY: a bucket of the map.
        self.taken = atomics::exchange32(unsafe { &raw mut (*self.bucket).lock }, 1) == 0;
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
        bucket::<A>(index)
    }
    #[inline(always)]
    fn connection(&self, index: u32) -> Option<*mut Connection<A>> {
        connection::<A>(index)
    }
    #[inline(always)]
    fn lock(&self, bucket: *mut Bucket) -> bool {
        Table::try_lock(bucket)
    }
    #[inline(always)]
    fn unlock(&self, bucket: *mut Bucket) {
        // SAFETY: a bucket of the map.
        atomics::exchange32(unsafe { &raw mut (*bucket).lock }, 0);
    }
    #[inline(always)]
    fn add(&self, counter: *mut u32, amount: u32) {
        atomics::fetch_add32(counter, amount);
    }
    #[inline(always)]
    fn sooner(&self, bucket: *mut Bucket, due: u64) {
        lower_due(bucket, due);
    }
    #[inline(always)]
    fn barrier(&self, bucket: *mut Bucket) {
        // SAFETY: a bucket of the map.
        atomics::fetch_add32(unsafe { &raw mut (*bucket).lock }, 0);
    }
    #[inline(always)]
    fn roomy(&self, hash: Hash) -> Option<u32> {
        let probe = probe_with_room::<A>(hash.0);
        if probe < PROBES { Some(probe) } else { None }
    }
    #[inline(always)]
    fn pass_by(&self, hash: Hash, probe: u32, amount: u32) {
        count_overflow::<A>(hash.0, probe, amount);
    }
}

global_fn! {
    /// Which of its buckets, by the number of the probe, has room for a connection of this hash; [`PROBES`] if none has.
    fn probe_with_room<A>(hash: u64) -> u32 = probe_with_room4, probe_with_room6 => find_room
}

fn find_room<A: IpAddress>(hash: u64) -> u32 {
    table::roomy::<A, Table>(&Table, Hash(hash)).unwrap_or(PROBES)
}

global_fn! {
    /// Adds `amount` to the overflow counts of the buckets before `probe`.
    fn count_overflow<A>(hash: u64, probe: u32, amount: u32) -> u32 = count_overflow4, count_overflow6 => add_overflow
}

fn add_overflow<A: IpAddress>(hash: u64, probe: u32, amount: u32) -> u32 {
    table::pass_by::<A, Table>(&Table, Hash(hash), probe, amount);
    0
}

/// Bucket `index` of a family's table.
#[inline(always)]
pub fn bucket<A: IpAddress>(index: u32) -> Option<*mut Bucket> {
    if A::IS_V4 { BUCKETS4.get_ptr_mut(index) } else { BUCKETS6.get_ptr_mut(index) }
}

/// Entry `index` of a family's table.
#[inline(always)]
pub fn entry<A: IpAddress>(index: u32) -> Option<Entry<A>> {
    // SAFETY: an element of the map.
    connection(index).map(|connection| unsafe { Entry::new(connection) })
}

#[inline(always)]
fn connection<A: IpAddress>(index: u32) -> Option<*mut Connection<A>> {
    // The casts are to the same type.
    if A::IS_V4 {
        CONNS4.get_ptr_mut(index).map(<*mut Connection<u32>>::cast)
    } else {
        CONNS6.get_ptr_mut(index).map(<*mut Connection<[u32; 4]>>::cast)
    }
}

/// Has a bucket swept at `due` at the latest.
#[inline(always)]
pub fn lower_due(bucket: *mut Bucket, due: u64) {
    if !try_lower_due(bucket, due) {
        keep_lowering(bucket, due);
    }
}

/// Lowers a bucket's time to `due` if it is later, unless another CPU changes it at this moment.
#[inline(always)]
fn try_lower_due(bucket: *mut Bucket, due: u64) -> bool {
    // SAFETY: a bucket of the map.
    let field = unsafe { &raw mut (*bucket).due };
    // SAFETY: as above.
    let old = unsafe { field.read_volatile() };
    old <= due || atomics::compare_exchange64(field, old, due).is_ok()
}

/// Tries that a number of times. Of global linkage, as [`advance`](crate::table::advance)'s are.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn keep_lowering(bucket: *mut Bucket, due: u64) -> u32 {
    if !bucket.is_null() {
        let _ = (0..DUE_TRIES).any(|_| try_lower_due(bucket, due));
    }
    0
}

/// Has the bucket of entry `at` swept at `due` at the latest.
#[inline(always)]
pub fn sweep_by<A: IpAddress>(at: u32, due: u64) {
    if let Some(bucket) = bucket::<A>(at / WAYS) {
        lower_due(bucket, due);
    }
}
