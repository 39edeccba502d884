//! The queueing discipline that TC programs hang on where the kernel has no links for them.

use aya::programs::tc::qdisc_add_clsact;
use aya::programs::{TcError, TcHandle};

use super::error::{Context, Result};

/// Priority and handle of the TC filters where the kernel has no links for them (before Linux 6.6).
pub const PRIORITY: u16 = 900;
/// See [`PRIORITY`].
pub const HANDLE: TcHandle = TcHandle::new(0, 1);

/// Gives a device the discipline, unless it has it.
pub fn add(device: &str) -> Result<()> {
    match qdisc_add_clsact(device) {
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        result => result.with_context(|| format!("cannot prepare {device} for a TC program")),
    }
}
