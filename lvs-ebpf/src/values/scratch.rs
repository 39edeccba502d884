//! Memory for values that do not fit the stack.

/// Longest payload of a packet that is put together or cut: what a packet of the kernel's can grow to.
pub const PAYLOAD: usize = 16384;

/// See [`SCRATCH`]. The payload is at most [`PAYLOAD`] long; the other half lets the verifier add offset and length.
#[repr(C)]
pub struct Scratch {
    pub payload: [u8; 2 * PAYLOAD],
    /// Always 0, which neither the compiler nor the verifier knows. See "loop state" in docs/develop/verifier.md.
    pub zero: u64,
}
