//! A line of the log.

use lvs_common::abi::DestId;

/// A line to be written.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct LogLine {
    /// Number of an [`Exit`], or [`exit::OPENED`].
    pub event: u32,
    /// A level's number.
    pub level: u32,
    /// The destination of a connection that was opened.
    pub dest: DestId,
    /// What to do then: jump to this program less 1, or with 0 return `verdict`.
    pub next: u32,
    pub verdict: i32,
}
