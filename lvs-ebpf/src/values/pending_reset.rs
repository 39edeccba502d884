//! A connection that has expired and waits until both its ends are reset.

/// A connection that waits: its entry, and its last packet's time when it began to.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct PendingReset {
    pub at: u32,
    pub pad: u32,
    pub seen: u64,
}
