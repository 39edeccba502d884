//! The clock of the timer.

use aya_ebpf::bindings::bpf_timer;
use lvs_common::defence::Met;

/// Slices a second: every bucket is looked at once a second, a sixteenth of the table at a time.
pub const SLICES: u64 = 16;

/// The timer of the sweep.
#[repr(C)]
pub struct Clock {
    pub timer: bpf_timer,
    /// Which slice of the tables comes next.
    pub slice: u64,
    /// Entries of IPv4 and of IPv6 that were met since the first slice.
    pub held: [u32; 2],
    /// What `drop_entry` met.
    pub met: Met,
    /// Slices of the sweep that still look at every entry, not only at those whose time has come.
    pub thorough: u32,
    /// The removal of destinations that they are for: see `Settings::removal`.
    pub removal: u64,
}
