//! The clock that connections live by.

use aya_ebpf::helpers::generated::bpf_jiffies64;

/// The clock connections live by.
#[inline(always)]
pub fn jiffies() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_jiffies64() }
}
