//! A control group (version 2), and running things in it.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::libc;

use super::namespace::Namespace;

/// A control group below the root; dropped, it goes with all processes in it.
pub struct ControlGroup {
    name: String,
    directory: PathBuf,
}

impl ControlGroup {
    /// A new one; `label` is for humans.
    pub fn new(label: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("/lvst-{}-{number}-{label}", process::id());
        let directory = hierarchy()?.join(&name[1..]);
        fs::create_dir(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(ControlGroup { name, directory })
    }

    /// Its name as `/proc/PID/cgroup` has it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// How many programs are attached to it that look at what happens to TCP sockets.
    pub fn attached(&self) -> Result<u32> {
        const BPF_PROG_QUERY: libc::c_long = 16;
        const BPF_CGROUP_SOCK_OPS: u32 = 3;
        /// The part of `union bpf_attr` for queries.
        #[repr(C)]
        #[derive(Default)]
        struct Query {
            target: u32,
            attach_type: u32,
            flags: [u32; 2],
            ids: u64,
            count: u32,
            pad: u32,
        }
        let directory = File::open(&self.directory)?;
        let target = directory.as_raw_fd() as u32;
        let mut query = Query { target, attach_type: BPF_CGROUP_SOCK_OPS, ..Query::default() };
        // SAFETY: attributes of that command and length, without an address.
        let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, &raw mut query, size_of::<Query>()) };
        nix::errno::Errno::result(result)?;
        Ok(query.count)
    }

    /// `program` as a command that runs in it and in a namespace.
    pub fn command(&self, namespace: &Namespace, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ >\"$0\"/cgroup.procs && exec \"$@\""]).arg(&self.directory);
        let inner = namespace.command(program);
        command.arg(inner.get_program()).args(inner.get_args());
        command
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        let end = Instant::now() + Duration::from_secs(10);
        let _ = fs::write(self.directory.join("cgroup.kill"), "1");
        // It is busy until the last process is gone.
        while fs::remove_dir(&self.directory).is_err() && self.directory.exists() && Instant::now() < end {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Where the hierarchy is mounted.
fn hierarchy() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read the list of mounts")?;
    let point = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        let (point, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(point))
    };
    mounts.lines().find_map(point).context("no cgroup2 file system is mounted: mount one at /sys/fs/cgroup")
}
