//! Ending a program before one of its system calls, or looking at it before each.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// What became of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was killed before the system call of the number that was asked for.
    Killed,
    /// It ended by itself, with this status, after so many system calls.
    Ended(i32, usize),
}

/// Runs `arguments` of `program` in a network namespace, and kills it before its system call number `at`, counted from 0 over all its threads.
/// Its standard input is a file; what it prints is not kept. `started` runs beside it.
///
/// # Errors
/// It cannot be started or traced.
pub fn run(
    namespace: &str,
    program: &Path,
    arguments: &[&str],
    input: Option<File>,
    at: usize,
    started: impl FnOnce(Pid) + Send,
) -> Result<End> {
    follow(namespace, program, arguments, input, started, |count| count == at)
}

/// Runs a program as [`run`] does, to its end. It waits before each of its system calls until `look` returns.
///
/// # Errors
/// It cannot be started or traced.
pub fn look(namespace: &str, program: &Path, arguments: &[&str], mut look: impl FnMut() + Send) -> Result<End> {
    let kills = |_| {
        look();
        false
    };
    follow(namespace, program, arguments, None, |_| {}, kills)
}

/// Runs a program, and kills it before the first system call of which `kills` says so.
fn follow(
    namespace: &str,
    program: &Path,
    arguments: &[&str],
    input: Option<File>,
    started: impl FnOnce(Pid) + Send,
    kills: impl FnMut(usize) -> bool + Send,
) -> Result<End> {
    let inside = File::open(format!("/run/netns/{namespace}"))?;
    // Who traces a process is a thread, and so is whose children are waited for.
    let run = || {
        let mut command = Command::new(program);
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        command.stdin(input.map_or_else(Stdio::null, Stdio::from));
        // SAFETY: two system calls, nothing else.
        unsafe {
            command.pre_exec(move || {
                setns(&inside, CloneFlags::CLONE_NEWNET)?;
                Ok(ptrace::traceme()?)
            });
        }
        let child = command.spawn().with_context(|| format!("cannot run {}", program.display()))?;
        let process = Pid::from_raw(child.id() as i32);
        thread::scope(|scope| {
            scope.spawn(move || started(process));
            trace(process, kills)
        })
    };
    thread::scope(|scope| scope.spawn(run).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Follows a process that stops as it executes its program.
fn trace(process: Pid, mut kills: impl FnMut(usize) -> bool) -> Result<End> {
    waitpid(process, None).context("it does not stop")?;
    let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL | Options::PTRACE_O_TRACECLONE;
    ptrace::setoptions(process, options)?;
    ptrace::syscall(process, None)?;
    // Threads that are within a system call: the next stop is its end.
    let mut within = HashSet::new();
    let (mut count, mut killed) = (0, false);
    loop {
        let any = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        let (thread, signal) = match waitpid(Pid::from_raw(-1), Some(any))? {
            WaitStatus::Exited(thread, status) if thread == process => return Ok(End::Ended(status, count)),
            WaitStatus::Signaled(thread, ..) if thread == process && killed => return Ok(End::Killed),
            WaitStatus::Signaled(thread, signal, _) if thread == process => {
                return Ok(End::Ended(128 + signal as i32, count));
            }
            WaitStatus::PtraceSyscall(thread) => {
                if !within.remove(&thread) {
                    if kills(count) {
                        killed = true;
                        kill(process, Signal::SIGKILL)?;
                    }
                    count += 1;
                    within.insert(thread);
                }
                (thread, None)
            }
            // A new thread begins with a stop that is its tracer's.
            WaitStatus::Stopped(thread, Signal::SIGSTOP) | WaitStatus::PtraceEvent(thread, ..) => (thread, None),
            WaitStatus::Stopped(thread, signal) => (thread, Some(signal)),
            _ => continue,
        };
        // One that was killed meanwhile is gone.
        match ptrace::syscall(thread, signal) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
