//! What was set up, kept in a file so that another run can undo it.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};

use super::change::Change;

/// Files of this folder belong to one network namespace each and go with the host's uptime, as what they describe does.
const FOLDER: &str = "/run/lvs/real-server";

/// The changes in force in this network namespace, oldest first.
pub struct State {
    changes: Vec<Change>,
    file: PathBuf,
    /// Held for as long as the state is in use: runs at the same time wait for one another.
    _lock: Option<Flock<File>>,
}

impl State {
    /// What the last run left.
    pub fn open() -> Result<Self> {
        let lock = if nix::unistd::geteuid().is_root() { Some(lock()?) } else { None };
        let file = PathBuf::from(FOLDER).join(format!("{}.json", namespace_cookie()?));
        let changes = match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| format!("{} is damaged", file.display()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
        };
        Ok(State { changes, file, _lock: lock })
    }

    /// Undoes what is not wanted any more, latest first, then sets what is wanted and not yet so.
    pub fn change_to(&mut self, wanted: Vec<Change>) -> Result<()> {
        while let Some(position) = self.changes.iter().rposition(|old| !wanted.iter().any(|new| new.concerns_same(old)))
        {
            self.changes[position].undo()?;
            self.changes.remove(position);
            self.save()?;
        }
        for new in wanted {
            let position = self.changes.iter().position(|old| old.concerns_same(&new));
            let filter = matches!(new, Change::Filter { .. });
            match position {
                Some(position) if filter => self.changes[position] = new.clone(),
                // Ours already: made so again in case somebody else changed it, and undone to what was before us.
                Some(_) => {}
                None if !filter && new.holds()? => continue,
                None => self.changes.push(new.clone().prepared()?),
            }
            self.save()?;
            if filter || !new.holds()? {
                new.apply()?;
            }
        }
        Ok(())
    }

    /// For `--status`.
    pub fn print(&self) {
        if self.changes.is_empty() {
            println!("nothing is set up");
        }
        for change in &self.changes {
            let state = match change.holds() {
                Ok(true) => "",
                Ok(false) => "  (no longer so)",
                Err(_) => "  (cannot tell)",
            };
            println!("{change}{state}");
        }
    }

    /// A file that is there is whole: it is written beside and moved.
    fn save(&self) -> Result<()> {
        let context = || format!("cannot write {}", self.file.display());
        if self.changes.is_empty() {
            return match fs::remove_file(&self.file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).with_context(context),
                _ => Ok(()),
            };
        }
        let new = self.file.with_extension("new");
        fs::write(&new, serde_json::to_vec(&self.changes)?).with_context(context)?;
        fs::rename(&new, &self.file).with_context(context)
    }
}

/// One lock for all namespaces: what is done under it is short.
fn lock() -> Result<Flock<File>> {
    let context = || format!("cannot lock {FOLDER}");
    fs::create_dir_all(FOLDER).with_context(context)?;
    let folder = File::open(FOLDER).with_context(context)?;
    Flock::lock(folder, FlockArg::LockExclusive).map_err(|(_, error)| error).with_context(context)
}

/// The number of this network namespace, which unlike the inode's is never used again.
fn namespace_cookie() -> Result<u64> {
    let socket = std::net::UdpSocket::bind(("::", 0)).or_else(|_| std::net::UdpSocket::bind(("0.0.0.0", 0)))?;
    let (mut cookie, mut length) = (0u64, size_of::<u64>() as libc::socklen_t);
    // SAFETY: the kernel writes at most `length` bytes to `cookie`.
    let answer = unsafe {
        let cookie = (&raw mut cookie).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, cookie, &mut length)
    };
    match answer {
        0 => Ok(cookie),
        _ => Err(io::Error::last_os_error())
            .context("the kernel does not tell network namespaces apart (older than 5.14?)"),
    }
}
