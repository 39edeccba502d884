//! A control group with a memory limit, of either version.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::namespace::Namespace;

/// Where the hierarchies of memory are, and the file of the limit: version 2 alone, beside version 1, and version 1.
const HIERARCHIES: [(&str, &str); 3] = [
    ("/sys/fs/cgroup", "memory.max"),
    ("/sys/fs/cgroup/unified", "memory.max"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
];

/// A control group below the root; dropped, it goes.
pub struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// A new one, for processes that take so many bytes together; `label` tells groups of a process apart.
    pub fn new(label: &str, limit: u64) -> Result<Self> {
        let (root, file) = HIERARCHIES
            .into_iter()
            .find(|(root, file)| {
                let root = Path::new(root);
                let controllers = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
                match *file == "memory.max" {
                    // The root hands the controller down to its groups.
                    true => {
                        controllers.split_whitespace().any(|name| name == "memory")
                            && fs::write(root.join("cgroup.subtree_control"), "+memory").is_ok()
                    }
                    false => root.join(file).exists(),
                }
            })
            .context("no hierarchy of control groups here limits memory: mount one below /sys/fs/cgroup")?;
        let group = MemoryGroup(Path::new(root).join(format!("lvst-{}-{label}", process::id())));
        fs::create_dir(&group.0).with_context(|| format!("cannot make {}", group.0.display()))?;
        fs::write(group.0.join(file), limit.to_string()).context("cannot limit the memory")?;
        Ok(group)
    }

    /// Its name as messages have it.
    pub fn name(&self) -> String {
        format!("/{}", self.0.file_name().unwrap_or_default().display())
    }

    /// `program` as a command that runs in it and in a namespace.
    pub fn command(&self, namespace: &Namespace, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ >\"$0\"/cgroup.procs && exec \"$@\""]).arg(&self.0);
        let inner = namespace.command(program);
        command.arg(inner.get_program()).args(inner.get_args());
        command
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let end = Instant::now() + Duration::from_secs(10);
        // It is busy until the last process is gone.
        while fs::remove_dir(&self.0).is_err() && self.0.exists() && Instant::now() < end {
            thread::sleep(Duration::from_millis(10));
        }
    }
}
