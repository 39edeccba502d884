//! Waiting for something to read.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::dataplane::error::{Context, Result};

/// Why a daemon's work has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The process was told to end, or nobody is left in its network namespace.
    Told,
    /// The data plane is not the one any more that the daemon has open: unloaded, or replaced by its next generation.
    Gone,
}

/// What is waited for: something to read.
pub fn readable(descriptor: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::new(descriptor, PollFlags::POLLIN)
}

/// Waits for a time: which of the descriptors have something to read.
pub fn wait(descriptors: &mut [PollFd<'_>], time: Duration) -> Result<Vec<bool>> {
    let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
    match poll(descriptors, timeout) {
        Err(Errno::EINTR) => {}
        result => drop(result.context("cannot wait")?),
    }
    Ok(descriptors.iter().map(|descriptor| descriptor.any().unwrap_or_default()).collect())
}
