//! What was set up, kept in a file so that another run can undo it.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use anyhow::{Context, Result};
use nix::fcntl::Flock;

use super::change::Change;
use super::decapsulation::Programs;
use super::state_file::{file, lock};
use lvs_director::dataplane::bpffs;

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
        let file = file(&bpffs::namespace_cookie()?.to_string());
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
        let mut programs = Programs::default();
        for new in wanted {
            let position = self.changes.iter().position(|old| old.concerns_same(&new));
            match position {
                _ if new.is_program() => {
                    self.put(position, new, &mut programs)?;
                    continue;
                }
                // Ours already: made so again in case somebody else changed it, and undone to what was before us.
                Some(_) => {}
                None if new.holds()? => continue,
                None => self.changes.push(new.clone().prepared()?),
            }
            self.save()?;
            if !new.holds()? {
                new.apply(&mut programs)?;
            }
        }
        Ok(())
    }

    /// Puts a program where there is none, or in place of another one. If it fails, what was there is there still.
    fn put(&mut self, position: Option<usize>, new: Change, programs: &mut Programs) -> Result<()> {
        let before = self.changes.clone();
        match position {
            Some(position) => self.changes[position] = new.clone(),
            None => self.changes.push(new.clone()),
        }
        self.save()?;
        new.apply(programs).or_else(|error| {
            self.changes = before;
            self.save()?;
            Err(error)
        })
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
            let counts = change.counts().unwrap_or_default();
            let counts: Vec<_> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
            if !counts.is_empty() {
                println!("         connections: {}", counts.join(", "));
            }
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
