//! Addresses at any alignment.

/// Copies an address.
///
/// # Safety
/// `from` is valid for reads, `to` for writes; neither needs to be aligned.
#[inline(always)]
pub unsafe fn copy(from: *const [u32; 4], to: *mut [u32; 4]) {
    // SAFETY: the caller's.
    unsafe { to.write_unaligned(from.read_unaligned()) }
}

/// Reads an address.
///
/// # Safety
/// `from` is valid for reads; it need not be aligned.
#[inline(always)]
pub unsafe fn load(from: *const [u32; 4]) -> [u32; 4] {
    // SAFETY: the caller's.
    unsafe { from.read_unaligned() }
}

/// Writes an address.
///
/// # Safety
/// `to` is valid for writes; it need not be aligned.
#[inline(always)]
pub unsafe fn store(address: [u32; 4], to: *mut [u32; 4]) {
    // SAFETY: the caller's.
    unsafe { to.write_unaligned(address) }
}

/// Writes three words.
///
/// # Safety
/// `to` is valid for writes of twelve bytes; it need not be aligned.
#[inline(always)]
pub unsafe fn store_words(words: [u32; 3], to: *mut [u32; 3]) {
    // SAFETY: the caller's.
    unsafe { to.write_unaligned(words) }
}
