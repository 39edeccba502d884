//! Whether anybody else is left in the network namespace. A daemon's process keeps it alive, so a daemon whose namespace was deleted
//! has to leave by itself. The kernel does not tell who refers to a namespace: the daemon looks for processes in it and for
//! mounts that are its names (`ip-netns(8)`). Who holds it by an open file alone is not seen.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// From one look to the next.
const PERIOD: Duration = Duration::from_secs(3);
/// `/proc/PID/ns/pid` of processes that see all others (`PROC_PID_INIT_INO`).
const ALL_PROCESSES: &str = "pid:[4026531836]";

/// Looks who is in the network namespace.
pub struct Residents {
    /// The namespace as links name it, `net:[NUMBER]`; `None` where not all processes can be seen.
    namespace: Option<PathBuf>,
    looked: Instant,
}

impl Residents {
    /// Of this process's namespace.
    pub fn new() -> Self {
        let link = |name: &str| fs::read_link(format!("/proc/{name}")).ok();
        let sees_all = link("self/ns/pid").as_deref() == Some(Path::new(ALL_PROCESSES));
        let namespace = link("self/ns/net").filter(|_| sees_all);
        Residents { namespace, looked: Instant::now() }
    }

    /// Whether nobody is left but `daemons`, by their process numbers. It looks every few seconds only.
    pub fn have_left(&mut self, daemons: &[u32]) -> bool {
        let Some(namespace) = &self.namespace else { return false };
        if self.looked.elapsed() < PERIOD {
            return false;
        }
        self.looked = Instant::now();
        !has_name(namespace) && !has_process(namespace, daemons)
    }
}

/// Whether a mount is the namespace. If mounts cannot be read, one may be.
fn has_name(namespace: &Path) -> bool {
    let Some(name) = namespace.to_str() else { return true };
    let mounts = fs::read_to_string("/proc/self/mountinfo");
    // Number, parent, device, and what of the file system is mounted.
    mounts.map_or(true, |mounts| mounts.lines().any(|line| line.split(' ').nth(3) == Some(name)))
}

/// The process that may hide where it is. The host's own namespace has the kernel's threads besides, so it never seems empty.
const INIT: u32 = 1;

/// Whether a process other than these is in the namespace. One that cannot be looked at may be.
fn has_process(namespace: &Path, daemons: &[u32]) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return true };
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<u32>().ok();
    let others =
        processes.flatten().filter_map(number).filter(|process| *process != INIT && !daemons.contains(process));
    others.into_iter().any(|process| match fs::read_link(format!("/proc/{process}/ns/net")) {
        Ok(link) => link == namespace,
        // It has ended.
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    })
}
