//! Loads that LLVM must not merge with others.

/// The value, loaded again: LLVM does not reuse what it loaded before, and the verifier knows nothing of it. See "path explosion"
/// and "volatile context pointers" in docs/develop/verifier.md.
#[inline(always)]
pub fn reload<T: Copy>(value: &T) -> T {
    // SAFETY: a reference.
    unsafe { (&raw const *value).read_volatile() }
}
