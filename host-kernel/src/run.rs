//! Programs and the tail calls between them.
//!
//! A program runs on a stack of its own. A tail call that succeeds never returns: the stack is thrown away, with the program's frames on
//! it, and the next program begins on it anew. The data plane's functions own nothing that would have to be dropped.

use std::ffi::c_void;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};

use crate::btf_maps::ProgramArray;
use crate::kernel::{self, Kernel};
use crate::program::{Program, Tier};

/// Tail calls that the kernel allows in a row (`MAX_TAIL_CALL_CNT`).
const TAIL_CALLS: u32 = 33;
/// Bytes of a program's stack: far more than the verifier allows, as the host's compiler inlines less.
const STACK: usize = 256 << 10;

impl Kernel {
    /// Runs a program at a hook, and those that it jumps to: the verdict.
    pub fn run(&self, tier: Tier, first: Program, context: *mut c_void) -> i32 {
        self.redirect.set(None);
        self.running.tier.set(tier);
        self.running.calls.set(0);
        self.enter(|| self.run_here(first, context))
    }

    fn run_here(&self, first: Program, context: *mut c_void) -> i32 {
        let free = self.running.stacks.borrow_mut().pop();
        let mut stack = free.unwrap_or_else(|| DefaultStack::new(STACK).expect("no memory for a stack"));
        let mut program = first;
        loop {
            let mut coroutine = Coroutine::with_stack(stack, move |yielder: &Yielder<(), Program>, ()| {
                kernel::with(|kernel| kernel.running.yielder.set(Some(yielder)));
                program(context)
            });
            let result = coroutine.resume(());
            if !coroutine.done() {
                // SAFETY: the frames on the stack own nothing: see the module's documentation.
                unsafe { coroutine.force_reset() };
            }
            stack = coroutine.into_stack();
            match result {
                CoroutineResult::Yield(next) => program = next,
                CoroutineResult::Return(verdict) => {
                    self.running.stacks.borrow_mut().push(stack);
                    return verdict;
                }
            }
        }
    }
}

/// `bpf_tail_call`: returns if the slot is empty, or after too many.
pub fn tail_call<const N: usize, const FLAGS: usize>(programs: &ProgramArray<N, FLAGS>, slot: u32) {
    let Some(next) = programs.program(slot) else { return };
    let yielder = kernel::with(|kernel| {
        let calls = kernel.running.calls.get();
        if calls >= TAIL_CALLS {
            return None;
        }
        kernel.running.calls.set(calls + 1);
        kernel.running.yielder.get()
    });
    if let Some(yielder) = yielder {
        // SAFETY: the yielder of the coroutine that this function runs on.
        unsafe { (*yielder).suspend(next) };
    }
}
