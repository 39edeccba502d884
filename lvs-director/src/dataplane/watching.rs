//! Whether an agent runs in this network namespace: it holds a lock while it does.

use std::fs::File;
use std::thread::sleep;
use std::time::Duration;

use nix::fcntl::Flock;

use super::bpffs;
use super::error::Result;

/// How often, and after how long each time, an agent tries again: [`Watching::is_under_way`] has the lock for a moment.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// An agent's lock, held until the value goes or the process ends, however it ends.
#[derive(Debug)]
pub struct Watching {
    _lock: Flock<File>,
}

impl Watching {
    /// Takes the lock; `None` if another agent has it.
    pub fn begin() -> Result<Option<Self>> {
        for _ in 0..TRIES {
            if let Some(lock) = bpffs::claim("agent")? {
                return Ok(Some(Watching { _lock: lock }));
            }
            sleep(PAUSE);
        }
        Ok(None)
    }

    /// Whether an agent has it.
    pub fn is_under_way() -> Result<bool> {
        Ok(bpffs::claim("agent")?.is_none())
    }
}
