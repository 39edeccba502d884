//! The atomic operations the data plane needs.
//!
//! `core::sync::atomic` has no read-modify-write for the bpf target, the intrinsics do. All are sequentially consistent: a
//! Relaxed fetch-add whose result is used is miscompiled by LLVM 22's BPF back end into a plain add.

use core::intrinsics::{AtomicOrdering::SeqCst, atomic_and, atomic_cxchg, atomic_or, atomic_xadd, atomic_xchg};

macro_rules! atomics {
    ($($(#[$doc:meta])* $name:ident($word:ty) = $intrinsic:ident<$($generic:ty),+>),+ $(,)?) => {
        $(
            $(#[$doc])*
            #[inline(always)]
            pub fn $name(target: *mut $word, operand: $word) -> $word {
                // SAFETY: callers pass pointers into map values, aligned by their type.
                unsafe { $intrinsic::<$($generic,)+ { SeqCst }>(target, operand) }
            }
        )+
    };
}

atomics! {
    /// Adds, wrapping; the value before.
    fetch_add32(u32) = atomic_xadd<u32, u32>,
    /// As [`fetch_add32`].
    fetch_add64(u64) = atomic_xadd<u64, u64>,
    /// Sets bits; the value before.
    fetch_or32(u32) = atomic_or<u32, u32>,
    /// As [`fetch_or32`].
    fetch_or64(u64) = atomic_or<u64, u64>,
    /// Clears the bits that are not set in the operand; the value before.
    fetch_and32(u32) = atomic_and<u32, u32>,
    /// As [`fetch_and32`].
    fetch_and64(u64) = atomic_and<u64, u64>,
    /// Stores; the value before.
    exchange32(u32) = atomic_xchg<u32>,
    /// As [`exchange32`].
    exchange64(u64) = atomic_xchg<u64>,
}

macro_rules! compare_exchanges {
    ($($(#[$doc:meta])* $name:ident($word:ty)),+ $(,)?) => {
        $(
            $(#[$doc])*
            #[inline(always)]
            pub fn $name(target: *mut $word, old: $word, new: $word) -> Result<(), $word> {
                // SAFETY: as above.
                match unsafe { atomic_cxchg::<$word, { SeqCst }, { SeqCst }>(target, old, new) } {
                    (_, true) => Ok(()),
                    (now, false) => Err(now),
                }
            }
        )+
    };
}

compare_exchanges! {
    /// Stores `new` if `*target` is `old`; `Err` holds what it is otherwise.
    compare_exchange32(u32),
    /// As [`compare_exchange32`].
    compare_exchange64(u64),
}
