//! A daemon's process.

use std::fs::File;
use std::io::Write;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::dup2_stdout;

use super::backup::Backup;
use super::master::Master;
use super::process::{NUMBER, READY};
use crate::dataplane::daemons::Running;
use crate::dataplane::error::{self, Context};
use crate::dataplane::plane::Plane;
use crate::dataplane::{devices, namespace};
use crate::director::{Access, Error, Result, Room};
use crate::rules::{Daemon, Role};

/// Is the daemon: says on standard output that it is at work, or why not, and works until it is told to end.
pub fn run(daemon: Daemon) -> error::Result<()> {
    let begun = begin(daemon);
    let mut stdout = std::io::stdout();
    // Whoever started it may be gone.
    let _ = match &begun {
        Ok(_) => writeln!(stdout, "{READY}"),
        Err(Error::Other(sentence)) => writeln!(stdout, "{sentence}"),
        Err(error) => writeln!(stdout, "{NUMBER}{}", error.number().unwrap_or(libc::EIO)),
    };
    let _ = stdout.flush();
    let Ok(mut begun) = begun else { return Ok(()) };
    // Whoever started it need not wait for the end of its output.
    let _ = File::open("/dev/null").map(dup2_stdout);
    let worked = begun.worker.work(&begun.stop);
    begun.leave()?;
    worked
}

/// A daemon at work.
enum Worker {
    Master(Box<Master>),
    Backup(Box<Backup>),
}

impl Worker {
    fn work(&mut self, stop: &SignalFd) -> error::Result<()> {
        match self {
            Worker::Master(master) => master.work(stop),
            Worker::Backup(backup) => backup.work(stop),
        }
    }

    fn plane(&mut self) -> &mut Plane {
        match self {
            Worker::Master(master) => master.plane(),
            Worker::Backup(backup) => backup.plane(),
        }
    }
}

/// A daemon that has begun.
struct Begun {
    role: Role,
    worker: Worker,
    stop: SignalFd,
    _running: Running,
}

impl Begun {
    /// Notes in the data plane that the daemon has ended.
    fn leave(&mut self) -> error::Result<()> {
        let (role, plane) = (self.role, self.worker.plane());
        if plane.directory.lock_again(Access::Change)? {
            plane.forget_daemon(role);
            plane.directory.unlock();
        }
        Ok(())
    }
}

/// Prepares everything, and notes in the data plane that the daemon runs.
fn begin(mut daemon: Daemon) -> Result<Begun> {
    let (device, mtu) = devices::named(&daemon.interface)?.ok_or(Error::Os(libc::ENODEV))?;
    let role = daemon.role;
    let running = Running::begin(role)?.ok_or(Error::Exists)?;
    daemon.maxlen = daemon.length(mtu);
    let stop = stop_signal().context("cannot wait for the end")?;
    let plane = namespace::ready(Access::Change, Room::default())?;
    let mut worker = match role {
        Role::Master => Worker::Master(Box::new(Master::new(&daemon, device, plane)?)),
        Role::Backup => Worker::Backup(Box::new(Backup::new(&daemon, device, plane)?)),
    };
    let plane = worker.plane();
    plane.note_daemon(&daemon);
    plane.directory.unlock();
    Ok(Begun { role, worker, stop, _running: running })
}

/// A descriptor that becomes readable when the process is told to end.
fn stop_signal() -> nix::Result<SignalFd> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)
}
