//! Zeroing by words. See "memset and memcpy" in docs/develop/verifier.md.

use aya_ebpf::bindings::bpf_fib_lookup;
use lvs_common::abi::{Address, NextHop};

/// What can be zeroed by words.
///
/// # Safety
/// The type is made of integers, and so any bytes are a value of it.
pub unsafe trait Words {}

// SAFETY: integers, and unions of them.
unsafe impl Words for bpf_fib_lookup {}
// SAFETY: integers.
unsafe impl Words for NextHop {}
// SAFETY: integers.
unsafe impl Words for Address {}

/// Zeroes a value. The stores are volatile, or LLVM would make a call of them.
#[inline(always)]
pub fn clear<T: Words>(value: &mut T) {
    const { assert!(size_of::<T>().is_multiple_of(4) && align_of::<T>() >= 4) };
    let words = (&raw mut *value).cast::<u32>();
    for word in 0..size_of::<T>() / 4 {
        // SAFETY: a word of the value, aligned as one; zero is a value of its integers.
        unsafe { words.add(word).write_volatile(0) }
    }
}
