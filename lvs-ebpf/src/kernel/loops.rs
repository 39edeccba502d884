//! Loops by `bpf_loop`, whose body the verifier follows once. See "loop state" in docs/develop/verifier.md.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use lvs_common::verifier::Each;

/// What the turns of a loop share: the loop's state, and what it does in each turn.
pub trait Turn {
    /// Turn number `index`; `true` ends the loop.
    fn turn(&mut self, index: u32) -> bool;
}

impl<F: FnMut(u32) -> bool> Turn for F {
    #[inline(always)]
    fn turn(&mut self, index: u32) -> bool {
        self(index)
    }
}

/// Takes turns 0, 1, … until one returns `true`, `times` at most.
#[inline(always)]
pub fn repeat<T: Turn>(times: u32, turns: &mut T) {
    // SAFETY: `callback::<T>` takes the context for a `T`, which it is. The borrow lasts for the whole loop.
    unsafe { bpf_loop(times, callback::<T> as *mut c_void, (turns as *mut T).cast(), 0) };
}

extern "C" fn callback<T: Turn>(index: u64, turns: *mut c_void) -> i64 {
    // SAFETY: `repeat` passed a `T` that nobody else uses until the loop ends.
    let turns = unsafe { &mut *turns.cast::<T>() };
    let stop = turns.turn(index as u32) as i64;
    // `bpf_loop` demands proof that a callback returns 0 or 1. The volatile read keeps LLVM from dropping the mask that is the
    // proof.
    // SAFETY: a variable of this function's.
    unsafe { (&raw const stop).read_volatile() & 1 }
}

/// [`repeat`] for the code that both sides share.
#[derive(Clone, Copy)]
pub struct KernelLoop;

impl Each for KernelLoop {
    #[inline(always)]
    fn each<F: FnMut(u32) -> bool>(&self, times: u32, turn: &mut F) {
        repeat(times, turn);
    }
}
