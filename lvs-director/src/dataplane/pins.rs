//! The pins of links in a directory, and what they say of devices and of the network namespace.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::bpffs::Directory;
use super::error::{Context, Result};
use super::link;
use crate::rules::LogLevel;

/// `lo` has the same index in every network namespace.
pub const LOOPBACK: u32 = 1;

/// Name of the link that tells whether its namespace lives, where `lo`'s does not.
pub const SIGN_OF_LIFE: &str = "alive";

/// The pin of a link: `kind` is `xdp`, `generic`, `ingress` or `egress`.
pub fn pin(directory: &Directory, kind: &str, ifindex: u32) -> PathBuf {
    directory.path().join("links").join(format!("{kind}-{ifindex}"))
}

/// Detaches a link and removes its pin, if there is one.
pub fn unpin(path: &Path) -> Result<()> {
    link::detach(path);
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context("cannot remove a pin"),
        _ => Ok(()),
    }
}

/// Whether what a pinned link is attached to still exists.
pub fn is_alive(path: &Path) -> bool {
    link::target(path).is_some_and(|index| index != 0)
}

/// Whether a directory of pins belongs to a network namespace that is gone: its `lo` is, or the namespace itself.
pub fn is_dead(directory: &Path) -> bool {
    let signs = [format!("egress-{LOOPBACK}"), SIGN_OF_LIFE.to_owned()];
    signs.iter().map(|sign| directory.join("links").join(sign)).any(|link| link.is_file() && !is_alive(&link))
}

/// Removes a directory of pins. One that is not there is as good: commands in other network namespaces may remove the same one
/// at the same time.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context("cannot remove a directory of pins"),
        _ => Ok(()),
    }
}

/// The level of the log that the data plane of a directory was loaded with.
pub fn log_level(directory: &Path) -> LogLevel {
    let is_noted = |level: &LogLevel| directory.join(log_mark(*level)).exists();
    LogLevel::ALL.into_iter().find(is_noted).unwrap_or_default()
}

/// Name of the directory that records a level.
pub fn log_mark(level: LogLevel) -> String {
    format!("log-{}", level.name())
}
