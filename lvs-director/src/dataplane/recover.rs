//! Forgetting staged changes: those of this process, and those of a command that was killed.

use lvs_common::abi::{Idle, ServiceId, Switch, dest_flags};

use super::bpffs::Directory;
use super::error::Result;
use super::generation;
use super::mapped::{field, put};
use super::plane::Plane;
use super::slots;
use crate::director::Access;

impl Plane {
    /// Opens the pinned maps for changes; gives the directory back if nothing is loaded in this network namespace. Forgets what
    /// a command that was killed left staged.
    pub fn open(directory: Directory) -> Result<Result<Plane, Directory>> {
        generation::settle(&directory)?;
        Ok(match Plane::map(directory)? {
            Ok(mut plane) => {
                plane.recover()?;
                Ok(plane)
            }
            Err(directory) => Err(directory),
        })
    }

    /// Opens the pinned maps to read them; `None` if nothing is loaded, or if a command that was killed left something staged.
    pub fn open_to_read(directory: Directory) -> Result<Option<Plane>> {
        if generation::is_under_way(&directory) {
            return Ok(None);
        }
        Ok(Plane::map(directory)?.ok().filter(|plane| plane.settings().staged == 0))
    }

    /// Has a plane that was opened to be read wait for the lock for changes, and forgets what a command that was killed left staged. `false`
    /// if the plane has to be opened anew, as another one has come into its place, or is about to.
    pub fn become_writer(&mut self) -> Result<bool> {
        if !self.directory.lock_again(Access::Change)? || generation::is_under_way(&self.directory) {
            self.directory.unlock();
            return Ok(false);
        }
        self.recover()?;
        Ok(true)
    }

    /// Forgets everything staged.
    pub fn abandon(&mut self) -> Result<()> {
        self.tables_due.clear();
        self.rosters_due.clear();
        let Some((services, dests)) = self.staging.take() else { return Ok(()) };
        self.recover()?;
        // The slots beyond were never in force.
        self.set(|s| {
            s.idle_dests = s.idle_dests.saturating_sub(s.dests_used - dests);
            (s.services_used, s.dests_used) = (services, dests);
        });
        Ok(())
    }

    /// Forgets what is staged, by this process or by one that died.
    fn recover(&mut self) -> Result<()> {
        let settings = self.settings();
        if settings.staged == 0 {
            return Ok(());
        }
        let epoch = settings.epoch;
        // Service 0 is none, but has the default pool of local addresses.
        for id in (0..settings.services_used).map(ServiceId::new) {
            let switch = field!(self.services, id, switch);
            if switch.pending(epoch) {
                put!(self.services, id, switch, Switch::at(epoch, switch.copy(epoch)));
            }
        }
        let mut idle = 0;
        for id in settings.dest_slots() {
            let switch = field!(self.dests, id, switch);
            if switch.pending(epoch) {
                put!(self.dests, id, switch, Switch::at(epoch, switch.copy(epoch)));
            }
            let available = self.dest_config(id).flags & dest_flags::AVAILABLE != 0;
            idle += u32::from(!available);
            // What was to be deleted is not, and what was to be revived is deleted still.
            match (available, self.idle.get(id).is_idle()) {
                (true, true) => self.idle.set(id, Idle::default()),
                (false, false) => self.idle.set(id, Idle::at(settings.now_ns, slots::key(&slots::key_of(self, id)))),
                _ => {}
            }
        }
        self.recover_mark_rules(epoch);
        self.set(|s| (s.staged, s.idle_dests) = (0, idle));
        self.sweep_index()
    }
}
