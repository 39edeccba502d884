//! Random numbers.

use aya_ebpf::helpers::generated::bpf_get_prandom_u32;

/// A pseudo-random word, for what need not be secret.
#[inline(always)]
pub fn word() -> u32 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_get_prandom_u32() }
}
