//! Constants that `lvsadm` sets in the object's read-only data: here, the same for all directors of a process, but for what a director's
//! tables decide.

use std::cell::Cell;

use crate::director::sizes;

thread_local! {
    /// Buckets of each family's table: explorations of interleavings want few.
    static BUCKETS: Cell<u32> = const { Cell::new(sizes::BUCKETS) };
}

/// Sets the number of buckets of each table, for this thread's directors.
pub fn set_buckets(count: u32) {
    BUCKETS.set(count);
}

macro_rules! params {
    ($($(#[$doc:meta])* $getter:ident: $type:ty = $value:expr),+ $(,)?) => {
        $(
            $(#[$doc])*
            #[inline(always)]
            pub fn $getter() -> $type {
                $value
            }
        )+
    };
}

params! {
    /// Jiffies a second.
    hz: u32 = 1000,
    /// Secret of the connection tables' hash.
    secret: u64 = 0x1357_9bdf_0246_8ace,
    /// Key of the challenges' numbers.
    challenge_key: [u64; 2] = [0x0f1e_2d3c_4b5a_6978, 0x8796_a5b4_c3d2_e1f0],
    /// Buckets of the IPv4 connection table.
    buckets4: u32 = BUCKETS.get(),
    /// Buckets of the IPv6 connection table.
    buckets6: u32 = BUCKETS.get(),
    /// Destination slots, the stride of a CPU in `COUNTERS`.
    dests: u32 = sizes::DESTINATIONS,
    /// CPUs that have counters of their own.
    cpus: u32 = sizes::CPUS,
    /// The kernel's FIB look-up can tell the source address.
    fib_source: u32 = 1,
    /// The kernel's FIB look-up can leave the neighbour out.
    fib_skips_neighbour: u32 = 1,
}
