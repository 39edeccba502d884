//! On which CPU a measurement runs.

use anyhow::Result;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Runs `work` on one CPU, with the threads it starts.
pub fn pinned_to<T>(cpu: usize, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let this = Pid::from_raw(0);
    let before = sched_getaffinity(this)?;
    let mut one = CpuSet::new();
    one.set(cpu)?;
    // A machine may have one CPU only.
    let _ = sched_setaffinity(this, &one);
    let result = work();
    sched_setaffinity(this, &before)?;
    result
}
