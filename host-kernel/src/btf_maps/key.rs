//! Keys of maps.

/// The bytes of a key, as the kernel compares it.
pub(super) fn bytes<T>(value: &T) -> &[u8] {
    // SAFETY: keys of maps are integers without padding.
    unsafe { core::slice::from_raw_parts((&raw const *value).cast(), size_of::<T>()) }
}
