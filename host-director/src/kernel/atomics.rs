//! The atomic operations of the data plane, sequentially consistent as BPF's are.

use aya_ebpf::kernel::point;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

macro_rules! atomics {
    ($($name:ident($word:ty, $atomic:ty) = $method:ident),+ $(,)?) => {
        $(
            #[doc = concat!("[`", stringify!($atomic), "::", stringify!($method), "`]: the value before.")]
            #[inline(always)]
            pub fn $name(target: *mut $word, operand: $word) -> $word {
                point();
                // SAFETY: callers pass pointers into map values, aligned by their type.
                unsafe { <$atomic>::from_ptr(target) }.$method(operand, SeqCst)
            }
        )+
    };
}

atomics! {
    fetch_add32(u32, AtomicU32) = fetch_add,
    fetch_add64(u64, AtomicU64) = fetch_add,
    fetch_or32(u32, AtomicU32) = fetch_or,
    fetch_or64(u64, AtomicU64) = fetch_or,
    fetch_and32(u32, AtomicU32) = fetch_and,
    fetch_and64(u64, AtomicU64) = fetch_and,
    exchange32(u32, AtomicU32) = swap,
    exchange64(u64, AtomicU64) = swap,
}

macro_rules! compare_exchanges {
    ($($name:ident($word:ty, $atomic:ty)),+ $(,)?) => {
        $(
            /// Stores `new` if `*target` is `old`; `Err` holds what it is otherwise.
            #[inline(always)]
            pub fn $name(target: *mut $word, old: $word, new: $word) -> Result<(), $word> {
                point();
                // SAFETY: as above.
                unsafe { <$atomic>::from_ptr(target) }.compare_exchange(old, new, SeqCst, SeqCst).map(drop)
            }
        )+
    };
}

compare_exchanges! {
    compare_exchange32(u32, AtomicU32),
    compare_exchange64(u64, AtomicU64),
}
