//! The connection table of a family: where its buckets and entries are, and their locks.

use crate::{
    kernel::{atomics, loops::KernelLoop, params},
    maps::{BUCKETS4, BUCKETS6, CONNS4, CONNS6},
    packet::parse::Family,
};
use aya_ebpf::helpers::generated::bpf_loop;
use core::ffi::c_void;
use lvs_common::{
    abi::{Bucket, Connection, WAYS},
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
    let mut waiting = Waiting { bucket, taken: 0 };
    // SAFETY: the callback gets the structure it expects.
    unsafe { bpf_loop(LOCK_TRIES, try_again as *mut c_void, (&raw mut waiting).cast(), 0) };
    waiting.taken
}

/// A CPU that waits for a bucket's lock, in a loop of the kernel's: the verifier would follow each turn of our own.
struct Waiting {
    bucket: *mut Bucket,
    taken: u32,
}

extern "C" fn try_again(_: u64, context: *mut c_void) -> i64 {
    // SAFETY: `try_lock` passed it.
    let waiting = unsafe { &mut *context.cast::<Waiting>() };
    // SAFETY: a bucket of the map.
    waiting.taken = (atomics::exchange32(unsafe { &raw mut (*waiting.bucket).lock }, 1) == 0) as u32;
    waiting.taken as i64
}

impl Each for Table {
    #[inline(always)]
    fn each<F: FnMut(u32) -> bool>(&self, times: u32, turn: &mut F) {
        KernelLoop.each(times, turn);
    }
}

macro_rules! store {
    ($address:ty, $buckets:ident, $connections:ident, $count:ident, $roomy:ident, $pass_by:ident) => {
        impl Store<$address> for Table {
            #[inline(always)]
            fn buckets(&self) -> u32 {
                params::$count()
            }
            #[inline(always)]
            fn bucket(&self, index: u32) -> Option<*mut Bucket> {
                $buckets.get_ptr_mut(index)
            }
            #[inline(always)]
            fn connection(&self, index: u32) -> Option<*mut Connection<$address>> {
                $connections.get_ptr_mut(index)
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
                if !lower_due(bucket, due) {
                    keep_lowering(bucket, due);
                }
            }
            #[inline(always)]
            fn barrier(&self, bucket: *mut Bucket) {
                // SAFETY: a bucket of the map.
                atomics::fetch_add32(unsafe { &raw mut (*bucket).lock }, 0);
            }
            #[inline(always)]
            fn roomy(&self, hash: Hash) -> Option<u32> {
                let choice = $roomy(hash.0);
                if choice < PROBES { Some(choice) } else { None }
            }
            #[inline(always)]
            fn pass_by(&self, hash: Hash, probe: u32, amount: u32) {
                $pass_by(hash.0, probe, amount);
            }
        }

        // Of global linkage, as [`advance`](crate::table::advance)'s are.
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $roomy(hash: u64) -> u32 {
            table::roomy::<$address, Table>(&Table, Hash(hash)).unwrap_or(PROBES)
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $pass_by(hash: u64, probe: u32, amount: u32) -> u32 {
            table::pass_by::<$address, Table>(&Table, Hash(hash), probe, amount);
            0
        }
    };
}

store!(u32, BUCKETS4, CONNS4, buckets4, roomy4, pass_by4);

store!([u32; 4], BUCKETS6, CONNS6, buckets6, roomy6, pass_by6);

/// Lowers a bucket's time to `due` if it is later, unless another CPU changes it at this moment.
#[inline(always)]
fn lower_due(bucket: *mut Bucket, due: u64) -> bool {
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
        let _ = (0..DUE_TRIES).any(|_| lower_due(bucket, due));
    }
    0
}

/// Has the bucket of entry `at` swept at `due` at the latest.
#[inline(always)]
pub fn sweep_by<A: Family>(at: u32, due: u64)
where
    Table: Store<A>,
{
    if let Some(bucket) = <Table as Store<A>>::bucket(&Table, at / WAYS) {
        <Table as Store<A>>::sooner(&Table, bucket, due);
    }
}
