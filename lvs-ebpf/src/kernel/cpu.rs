//! The CPU that a program runs on.

use aya_ebpf::helpers::bpf_get_smp_processor_id;

/// This CPU's number.
#[inline(always)]
pub fn number() -> u32 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_get_smp_processor_id() }
}
