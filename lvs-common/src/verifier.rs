//! What the BPF verifier needs and a reader would otherwise take for a detour.
//!
//! The verifier follows a program instruction by instruction and must be convinced that it ends and stays inside its memory.
//! LLVM knows more than the verifier, so it removes a bound that it can prove to be superfluous, or turns a few stores into a
//! call of `memset`. The helpers here keep such code in the form that the verifier accepts; on the host they change nothing.
//! `docs/develop/verifier.md` describes the cases by name.

/// `value`, as if read from memory: the compiler learns nothing of it, so it neither removes a check of it nor makes it a
/// constant.
#[inline(always)]
pub fn opaque<T: Copy>(value: T) -> T {
    // SAFETY: a variable of this function's.
    unsafe { (&raw const value).read_volatile() }
}

/// `index` as that of one of 32 rows.
///
/// The compiler must not see that the mask changes nothing and remove it: Linux 6.1's verifier loses the bounds of an
/// index that is put together by 32-bit operations.
#[inline(always)]
pub fn row_index(index: usize) -> usize {
    opaque(index) & 31
}

/// A way to loop. The verifier follows each turn of an ordinary loop, so the data plane's loops are the kernel's `bpf_loop`,
/// whose body it follows once: see "loop state" in docs/develop/verifier.md.
pub trait Each {
    /// Calls `turn` with 0, 1, … until it returns `true`, at most `times` times.
    fn each<F: FnMut(u32) -> bool>(&self, times: u32, turn: &mut F);
}

/// An ordinary loop.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Each for Plain {
    fn each<F: FnMut(u32) -> bool>(&self, times: u32, turn: &mut F) {
        let _ = (0..times).any(turn);
    }
}
