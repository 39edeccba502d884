//! The files that hold what was set up: one for each network namespace.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};

/// The folder of the files. It does not outlive the host's uptime, as what the files describe does not.
const FOLDER: &str = "/run/lvs/real-server";

/// The file of the network namespace with this cookie.
pub fn file(cookie: &str) -> PathBuf {
    PathBuf::from(FOLDER).join(format!("{cookie}.json"))
}

/// Removes the file of a network namespace that is gone.
pub fn forget(cookie: &str) -> Result<()> {
    match fs::remove_file(file(cookie)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).context("cannot remove an old state"),
        _ => Ok(()),
    }
}

/// One lock for all namespaces: what is done under it is short.
pub fn lock() -> Result<Flock<File>> {
    let context = || format!("cannot lock {FOLDER}");
    fs::create_dir_all(FOLDER).with_context(context)?;
    let folder = File::open(FOLDER).with_context(context)?;
    Flock::lock(folder, FlockArg::LockExclusive).map_err(|(_, error)| error).with_context(context)
}
