//! What becomes of a connection that moves from one generation of the data plane to the next.

/// Connections that one run of `lvs_move` puts into the table at most.
pub const MOVED_AT_ONCE: u32 = 256;

/// An element of `MOVED`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Arrival {
    /// Index of its entry, if there is one.
    pub at: u32,
    /// One of [`outcome`].
    pub outcome: u32,
}

/// Outcomes of [`Arrival`].
pub mod outcome {
    /// Not looked at yet.
    pub const WAITING: u32 = 0;
    /// It is in the table.
    pub const MOVED: u32 = 1;
    /// One with the same ends is in the table, at `Arrival::at`.
    pub const EXISTS: u32 = 2;
    /// A bucket is locked by another CPU: try again.
    pub const BUSY: u32 = 3;
    /// No bucket that it may stand in has room.
    pub const FULL: u32 = 4;
}
