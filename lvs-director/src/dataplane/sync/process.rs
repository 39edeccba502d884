//! Daemons as processes: started and ended by commands.

use std::io::{self, BufRead, BufReader};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{ForkResult, Pid, fork, setsid};

use crate::dataplane::bpffs::MOUNT_POINT_VARIABLE;
use crate::dataplane::daemons::{KEY_OPTION, Running};
use crate::director::{Error, Result};
use crate::rules::{Daemon, Role};

/// The sub-command that a daemon's process is started with.
const SUBCOMMAND: &str = "synchronise";
/// What a process says when it is at work.
pub const READY: &str = "ready";
/// What it says before the number of an error.
pub const NUMBER: &str = "number ";
/// How often it is looked whether a process has ended.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a process is given to end, by each signal.
const PATIENCE: Duration = Duration::from_secs(5);

/// Starts a daemon in a process of its own, by `program`, which goes on when the caller has ended. The caller has no lock of the
/// data plane's. The process finds its pins in `root`, the BPF file system, whatever it sees of mounts.
pub fn start(program: &Path, daemon: &Daemon, root: BorrowedFd<'_>) -> Result<()> {
    let mut command = Command::new(program);
    command.arg0("lvsadm").arg(SUBCOMMAND).args(words(daemon)).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let root = root.as_raw_fd();
    command.env(MOUNT_POINT_VARIABLE, format!("/proc/self/fd/{root}"));
    // SAFETY: between fork and exec it does nothing but system calls.
    unsafe { command.pre_exec(move || leave_parent(root)) };
    let mut child = command.spawn().map_err(|error| Error::Other(format!("cannot start the daemon: {error}")))?;
    let mut line = String::new();
    if let Some(said) = child.stdout.take() {
        let _ = BufReader::new(said).read_line(&mut line);
    }
    // The process that was started has ended by now; the program that calls this may wait for all of its children itself.
    let _ = child.wait();
    let line = line.trim_end();
    if line == READY {
        return Ok(());
    }
    Err(match line.strip_prefix(NUMBER).map(str::parse) {
        Some(Ok(libc::EEXIST)) => Error::Exists,
        Some(Ok(number)) => io::Error::from_raw_os_error(number).into(),
        _ if line.is_empty() => Error::Other("the daemon ended as soon as it was started".to_owned()),
        _ => Error::Other(line.to_owned()),
    })
}

/// Goes on as a process of its own session that nobody waits for, and keeps a descriptor.
fn leave_parent(kept: RawFd) -> io::Result<()> {
    setsid()?;
    // SAFETY: a descriptor of the parent's, which is open in the child.
    fcntl(unsafe { BorrowedFd::borrow_raw(kept) }, FcntlArg::F_SETFD(FdFlag::empty()))?;
    // SAFETY: the calls are safe between fork and exec.
    match unsafe { fork() }? {
        ForkResult::Child => Ok(()),
        // SAFETY: as above; nothing is to be cleaned up.
        ForkResult::Parent { .. } => unsafe { libc::_exit(0) },
    }
}

/// A daemon as the arguments of the sub-command.
fn words(daemon: &Daemon) -> Vec<String> {
    let Daemon { role, interface, syncid, maxlen, port, ttl, key, .. } = daemon;
    let named = [
        ("--mcast-interface", interface.clone()),
        ("--syncid", syncid.to_string()),
        (if daemon.has_peer() { "--peer" } else { "--mcast-group" }, daemon.destination()),
        ("--mcast-port", port.to_string()),
        ("--mcast-ttl", ttl.to_string()),
    ];
    let named = named.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
    let maxlen = (*maxlen != 0).then(|| format!("--sync-maxlen={maxlen}"));
    // The key's place, not the key: everybody may read a command line.
    let key = key.as_ref().map(|key| format!("{KEY_OPTION}{}", key.display()));
    ["--start-daemon".to_owned(), role.name().to_owned()].into_iter().chain(named).chain(maxlen).chain(key).collect()
}

/// Ends the daemon of a role, which runs in a process, and waits until it has. The caller has no lock of the data plane's.
pub fn stop(role: Role, process: Option<u32>) -> Result<()> {
    if !Running::is_under_way(role)? {
        return Err(Error::NoService);
    }
    let Some(process) = process else {
        let sentence = format!("the {}'s process is of another process namespace: end it there", role.name());
        return Err(Error::Other(sentence));
    };
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        // It may have ended meanwhile.
        let _ = kill(Pid::from_raw(process as i32), signal);
        let sent = Instant::now();
        while sent.elapsed() < PATIENCE {
            if !Running::is_under_way(role)? {
                return Ok(());
            }
            sleep(PAUSE);
        }
    }
    Err(Error::Other(format!("the {}'s process {process} does not end", role.name())))
}
