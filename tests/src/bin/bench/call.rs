//! A run of `lvsadm`: how long it takes, and how much memory.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Result, ensure};
use nix::libc;
use tests::topology::lvsadm_path;

/// A way to call `lvsadm`.
pub struct Call<'a> {
    /// Its arguments, split at spaces.
    pub arguments: &'a str,
    /// What it reads.
    pub stdin: Option<&'a Path>,
}

/// What a call took.
pub struct Cost {
    /// Milliseconds from its start to its end.
    pub time: f64,
    /// Milliseconds of CPU time.
    pub cpu: f64,
    /// MB of memory at the peak, mapped parts of the data plane's tables included.
    pub memory: f64,
}

/// A call that reads nothing.
pub fn lvsadm(arguments: &str) -> Call<'_> {
    Call { arguments, stdin: None }
}

impl Call<'_> {
    /// Runs it in this thread's network namespace: how many milliseconds it took.
    pub fn time(&self) -> Result<f64> {
        Ok(self.cost()?.time)
    }

    /// The same, with its memory.
    pub fn cost(&self) -> Result<Cost> {
        let mut command = Command::new(lvsadm_path());
        command.args(self.arguments.split_whitespace()).stdin(Stdio::null()).stdout(Stdio::null());
        if let Some(file) = self.stdin {
            command.stdin(File::open(file)?);
        }
        let begin = Instant::now();
        let (status, usage) = wait(&command.spawn()?)?;
        let time = begin.elapsed().as_secs_f64() * 1000.0;
        ensure!(status == 0, "lvsadm {} failed: wait status {status:#x}", self.arguments);
        let spent = |spent: libc::timeval| spent.tv_sec as f64 * 1000.0 + spent.tv_usec as f64 / 1000.0;
        let cpu = spent(usage.ru_utime) + spent(usage.ru_stime);
        Ok(Cost { time, cpu, memory: usage.ru_maxrss as f64 / 1024.0 })
    }
}

/// Waits for a child: its wait status, and what it used.
fn wait(child: &Child) -> io::Result<(i32, libc::rusage)> {
    let (mut status, mut usage) = (0, MaybeUninit::<libc::rusage>::zeroed());
    // SAFETY: both results outlive the call; zeroes are a valid `rusage` if the kernel writes none.
    let (waited, usage) = unsafe {
        let waited = libc::wait4(child.id() as libc::pid_t, &raw mut status, 0, usage.as_mut_ptr());
        (waited, usage.assume_init())
    };
    if waited < 0 { Err(io::Error::last_os_error()) } else { Ok((status, usage)) }
}
