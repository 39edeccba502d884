//! How many files this process may have open.

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Both ends of ten thousand connections, and as much again.
const ENOUGH: u64 = 65_536;

/// Lets this process open as many files as both ends of many connections need.
pub fn raise_file_limit() -> Result<()> {
    let (now, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if now >= ENOUGH {
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_NOFILE, ENOUGH, most.max(ENOUGH))
        .or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, most, most))
        .context("cannot raise the limit of open files")
}
