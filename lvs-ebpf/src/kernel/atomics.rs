//! The atomic operations the data plane needs.
//!
//! `core::sync::atomic` has no read-modify-write for the bpf target, the intrinsics do. All are sequentially consistent: a
//! Relaxed fetch-add whose result is used is miscompiled by LLVM 22's BPF back end into a plain add.

use core::intrinsics::{AtomicOrdering::SeqCst, atomic_and, atomic_cxchg, atomic_or, atomic_xadd, atomic_xchg};

/// Stores `new` if `*target` is `old`; `Err` holds what it is otherwise.
#[inline(always)]
pub fn compare_exchange32(target: *mut u32, old: u32, new: u32) -> Result<(), u32> {
    // SAFETY: callers pass pointers into map values, aligned by their type.
    match unsafe { atomic_cxchg::<u32, { SeqCst }, { SeqCst }>(target, old, new) } {
        (_, true) => Ok(()),
        (now, false) => Err(now),
    }
}

/// As [`compare_exchange32`].
#[inline(always)]
pub fn compare_exchange64(target: *mut u64, old: u64, new: u64) -> Result<(), u64> {
    // SAFETY: as above.
    match unsafe { atomic_cxchg::<u64, { SeqCst }, { SeqCst }>(target, old, new) } {
        (_, true) => Ok(()),
        (now, false) => Err(now),
    }
}

/// Adds, wrapping; the value before.
#[inline(always)]
pub fn fetch_add32(target: *mut u32, amount: u32) -> u32 {
    // SAFETY: as above.
    unsafe { atomic_xadd::<u32, u32, { SeqCst }>(target, amount) }
}

/// As [`fetch_add32`].
#[inline(always)]
pub fn fetch_add64(target: *mut u64, amount: u64) -> u64 {
    // SAFETY: as above.
    unsafe { atomic_xadd::<u64, u64, { SeqCst }>(target, amount) }
}

/// Sets bits; the value before.
#[inline(always)]
pub fn fetch_or32(target: *mut u32, bits: u32) -> u32 {
    // SAFETY: as above.
    unsafe { atomic_or::<u32, u32, { SeqCst }>(target, bits) }
}

/// As [`fetch_or32`].
#[inline(always)]
pub fn fetch_or64(target: *mut u64, bits: u64) -> u64 {
    // SAFETY: as above.
    unsafe { atomic_or::<u64, u64, { SeqCst }>(target, bits) }
}

/// Clears the bits that are not set in `bits`; the value before.
#[inline(always)]
pub fn fetch_and64(target: *mut u64, bits: u64) -> u64 {
    // SAFETY: as above.
    unsafe { atomic_and::<u64, u64, { SeqCst }>(target, bits) }
}

/// As [`fetch_and64`].
#[inline(always)]
pub fn fetch_and32(target: *mut u32, bits: u32) -> u32 {
    // SAFETY: as above.
    unsafe { atomic_and::<u32, u32, { SeqCst }>(target, bits) }
}

/// Stores; the value before.
#[inline(always)]
pub fn exchange32(target: *mut u32, value: u32) -> u32 {
    // SAFETY: as above.
    unsafe { atomic_xchg::<u32, { SeqCst }>(target, value) }
}

/// As [`exchange32`].
#[inline(always)]
pub fn exchange64(target: *mut u64, value: u64) -> u64 {
    // SAFETY: as above.
    unsafe { atomic_xchg::<u64, { SeqCst }>(target, value) }
}
