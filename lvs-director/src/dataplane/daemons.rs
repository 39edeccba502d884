//! Which daemons of connection synchronisation run: each notes in `SYNC` what it was started with, and holds a lock of its network
//! namespace while it runs, however it ends.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use lvs_common::abi::{AF_INET, Address, Daemon as Slot, FURTHER_PEERS, daemons};
use nix::fcntl::Flock;

use super::bpffs;
use super::convert;
use super::error::Result;
use super::plane::Plane;
use crate::rules::{Daemon, Family, Role};

/// What the name of the key's file follows in the command line of a daemon's process.
pub const KEY_OPTION: &str = "--sync-key=";
/// How often, and after how long each time, a lock is tried: whoever looks whether a daemon runs has it for a moment.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// A daemon's lock, held until the value goes or the process ends, however it ends.
#[derive(Debug)]
pub struct Running {
    _lock: Flock<fs::File>,
}

impl Running {
    /// Takes the lock; `None` if another daemon of this role has it.
    pub fn begin(role: Role) -> Result<Option<Self>> {
        for _ in 0..TRIES {
            if let Some(lock) = bpffs::claim(lock(role))? {
                return Ok(Some(Running { _lock: lock }));
            }
            sleep(PAUSE);
        }
        Ok(None)
    }

    /// Whether a daemon of this role has it.
    pub fn is_under_way(role: Role) -> Result<bool> {
        Ok(bpffs::claim(lock(role))?.is_none())
    }
}

/// The name of a role's lock.
fn lock(role: Role) -> &'static str {
    match role {
        Role::Master => "sync-master",
        Role::Backup => "sync-backup",
    }
}

/// The bit of a role.
fn bit(role: Role) -> u32 {
    match role {
        Role::Master => daemons::MASTER,
        Role::Backup => daemons::BACKUP,
    }
}

/// A daemon as it is noted, `None` if none is.
fn daemon(role: Role, slot: &Slot) -> Option<Daemon> {
    if slot.process == 0 {
        return None;
    }
    let name = slot.interface.split(|byte| *byte == 0).next().unwrap_or_default();
    let family = if slot.family == u32::from(AF_INET) { AF_INET } else { Family::V6.number() };
    let further = slot.further.iter().take(slot.further_peers as usize);
    Some(Daemon {
        role,
        interface: String::from_utf8_lossy(name).into_owned(),
        syncid: slot.syncid as u8,
        maxlen: slot.maxlen as u16,
        group: convert::ip(slot.group, family),
        further: further.map(|peer| convert::ip(*peer, family)).collect(),
        port: slot.port as u16,
        ttl: slot.ttl as u8,
        key: (slot.sealed != 0).then(|| key(slot.process)),
    })
}

/// The file with the key of the daemon that runs in a process, by its command line; empty if the process is gone.
fn key(process: u32) -> PathBuf {
    let words = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    let file = words.split(|byte| *byte == 0).find_map(|word| word.strip_prefix(KEY_OPTION.as_bytes()));
    PathBuf::from(OsStr::from_bytes(file.unwrap_or_default()))
}

/// What is noted of a daemon that runs in a process.
fn slot(daemon: &Daemon, process: u32) -> Slot {
    let mut interface = [0; 16];
    let name = daemon.interface.as_bytes();
    interface.iter_mut().zip(name.iter().take(15)).for_each(|(to, from)| *to = *from);
    let mut further = [Address::default(); FURTHER_PEERS];
    further.iter_mut().zip(&daemon.further).for_each(|(to, peer)| *to = convert::address(*peer));
    Slot {
        process,
        family: Family::of(daemon.group).number().into(),
        started: started_at(process).unwrap_or_default(),
        interface,
        group: convert::address(daemon.group),
        syncid: daemon.syncid.into(),
        maxlen: daemon.maxlen.into(),
        port: daemon.port.into(),
        ttl: daemon.ttl.into(),
        sealed: daemon.key.is_some().into(),
        further_peers: daemon.further.len().min(FURTHER_PEERS) as u32,
        further,
    }
}

/// When a process was started, in the kernel's clock ticks.
fn started_at(process: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // After the name in parentheses, which may hold anything: state is field 3, the start field 22.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

impl Plane {
    /// The daemons that run.
    pub fn daemons(&self) -> Result<Vec<Daemon>> {
        let mut found = Vec::new();
        for role in Role::ALL {
            if let Some(daemon) = daemon(role, &self.daemon_slot(role))
                && Running::is_under_way(role)?
            {
                found.push(daemon);
            }
        }
        Ok(found)
    }

    /// The daemon of a role as it was noted, whether it runs or not.
    pub fn noted_daemon(&self, role: Role) -> Option<Daemon> {
        daemon(role, &self.daemon_slot(role))
    }

    /// The number of the process that runs the daemon of a role; `None` if it is gone, or of another process namespace.
    pub fn daemon_process(&self, role: Role) -> Option<u32> {
        let slot = self.daemon_slot(role);
        (slot.process != 0 && started_at(slot.process) == Some(slot.started)).then_some(slot.process)
    }

    /// The processes that are noted to run daemons.
    pub fn daemon_processes(&self) -> [u32; 2] {
        Role::ALL.map(|role| self.daemon_slot(role).process)
    }

    /// Notes that this process runs a daemon.
    pub fn note_daemon(&mut self, daemon: &Daemon) {
        self.set_daemon_slot(daemon.role, &slot(daemon, std::process::id()));
        self.set(|s| s.daemons |= bit(daemon.role));
    }

    /// Notes that the daemon of a role has ended.
    pub fn forget_daemon(&mut self, role: Role) {
        self.set(|s| s.daemons &= !bit(role));
        self.set_daemon_slot(role, &Slot::default());
    }

    /// Notes which daemons have ended without a word: packets need announce nothing any more.
    pub fn forget_dead_daemons(&mut self) -> Result<()> {
        let noted = self.settings().daemons;
        for role in Role::ALL {
            if noted & bit(role) != 0 && !Running::is_under_way(role)? {
                self.forget_daemon(role);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_daemon_is_noted_as_it_is() {
        for (group, further) in [
            ("224.0.0.81", vec![]),
            ("ff02::81", vec![]),
            ("192.0.2.1", vec!["192.0.2.2", "192.0.2.3"]),
            ("2001:db8::1", vec!["2001:db8::2"; FURTHER_PEERS]),
        ] {
            let other = Daemon {
                further: further.into_iter().map(|peer| peer.parse().unwrap()).collect(),
                interface: "averylonginterf".to_owned(),
                syncid: 255,
                maxlen: 65507,
                group: group.parse().unwrap(),
                port: 9999,
                ttl: 5,
                key: Some(PathBuf::new()),
                ..Daemon::new(Role::Backup)
            };
            assert_eq!(daemon(Role::Backup, &slot(&other, std::process::id())), Some(other));
        }
        assert_eq!(daemon(Role::Master, &Slot::default()), None);
    }

    #[test]
    fn the_key_of_a_daemon_is_where_its_process_was_told() {
        let path = |words: &[&str]| {
            let mut command = Command::new("sh");
            command.args(["-c", "echo; read _", "sh"]).args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut process = command.spawn().unwrap();
            // Until it runs, it has no command line.
            process.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
            let path = key(process.id());
            process.kill().unwrap();
            process.wait().unwrap();
            path
        };
        assert_eq!(path(&["--syncid", "7", "--sync-key=/etc/a key"]), PathBuf::from("/etc/a key"));
        assert_eq!(path(&["--syncid", "7"]), PathBuf::new());
    }
}
