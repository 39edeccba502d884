//! Loops by the kernel's `bpf_loop`.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use lvs_common::verifier::Each;

/// Loops by `bpf_loop`.
#[derive(Clone, Copy)]
pub struct KernelLoop;

impl Each for KernelLoop {
    #[inline(always)]
    fn each<F: FnMut(u32) -> bool>(&self, times: u32, turn: &mut F) {
        // SAFETY: the callback gets the closure it expects.
        unsafe { bpf_loop(times, call::<F> as *mut c_void, (turn as *mut F).cast(), 0) };
    }
}

extern "C" fn call<F: FnMut(u32) -> bool>(index: u64, turn: *mut c_void) -> i64 {
    // SAFETY: `each` passed it.
    let turn = unsafe { &mut *turn.cast::<F>() };
    let stop = turn(index as u32) as i64;
    // The kernel wants to see that it is 0 or 1. The compiler knows that it is, and would leave a plain mask out.
    // SAFETY: a variable of this function's.
    unsafe { (&raw const stop).read_volatile() & 1 }
}
