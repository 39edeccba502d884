//! Constants that `lvsadm` sets in the object's read-only data before it loads it: to the verifier they are constants.

macro_rules! params {
    ($($(#[$doc:meta])* $name:ident $getter:ident: $type:ty = $default:expr),+ $(,)?) => {
        $(
            #[unsafe(no_mangle)]
            static $name: $type = $default;

            $(#[$doc])*
            #[inline(always)]
            pub fn $getter() -> $type {
                // SAFETY: a static of this program; volatile, as the loader changes it behind the compiler's back.
                unsafe { (&raw const $name).read_volatile() }
            }
        )+
    };
}

params! {
    /// Jiffies a second.
    HZ hz: u32 = 1000,
    /// Secret of the connection tables' hash.
    SECRET secret: u64 = 0,
    /// Key of the challenges' numbers.
    CHALLENGE_KEY challenge_key: [u64; 2] = [0; 2],
    /// Buckets of the IPv4 connection table.
    BUCKETS4_COUNT buckets4: u32 = 1,
    /// Buckets of the IPv6 connection table.
    BUCKETS6_COUNT buckets6: u32 = 1,
    /// Destination slots, the stride of a CPU in `COUNTERS`.
    DEST_COUNT dests: u32 = 2,
    /// CPUs that have counters of their own.
    CPU_COUNT cpus: u32 = 1,
    /// Whether the kernel's FIB look-up can tell the source address (Linux 6.7).
    FIB_SOURCE fib_source: u32 = 0,
    /// 1 if the kernel's FIB look-up can leave the neighbour out (Linux 6.3).
    FIB_SKIPS_NEIGHBOUR fib_skips_neighbour: u32 = 0,
}
