//! A daemon's process.

use std::fs::File;
use std::io::Write;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::dup2_stdout;

use super::backup::Backup;
use super::master::Master;
use super::process::{NUMBER, READY};
use super::wait::End;
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
    loop {
        match begun.worker.work(&begun.stop) {
            Ok(End::Gone) if begun.follow()? => {}
            Ok(End::Gone) => return Ok(()),
            Ok(End::Told) => return begun.leave(),
            Err(error) => {
                begun.leave()?;
                return Err(error);
            }
        }
    }
}

/// A daemon at work.
enum Worker {
    Master(Box<Master>),
    Backup(Box<Backup>),
}

impl Worker {
    /// Opens a daemon's sockets and maps, on a data plane whose lock the caller has.
    fn new(daemon: &Daemon, device: u32, plane: Plane) -> error::Result<Self> {
        Ok(match daemon.role {
            Role::Master => Worker::Master(Box::new(Master::new(daemon, device, plane)?)),
            Role::Backup => Worker::Backup(Box::new(Backup::new(daemon, device, plane)?)),
        })
    }

    fn work(&mut self, stop: &SignalFd) -> error::Result<End> {
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
    daemon: Daemon,
    device: u32,
    worker: Worker,
    stop: SignalFd,
    _running: Running,
}

impl Begun {
    /// Goes on with the next generation of the data plane, if there is one. `false` if it was unloaded.
    fn follow(&mut self) -> error::Result<bool> {
        // The lock is the same one, which a process can also wait for itself.
        self.worker.plane().directory.unlock();
        let Some(plane) = namespace::open(Access::Change)? else { return Ok(false) };
        self.worker = Worker::new(&self.daemon, self.device, plane)?;
        let plane = self.worker.plane();
        plane.note_daemon(&self.daemon);
        plane.directory.unlock();
        Ok(true)
    }

    /// Notes in the data plane that the daemon has ended.
    fn leave(&mut self) -> error::Result<()> {
        let (role, plane) = (self.daemon.role, self.worker.plane());
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
    let running = Running::begin(daemon.role)?.ok_or(Error::Exists)?;
    daemon.maxlen = daemon.length(mtu);
    let stop = stop_signal().context("cannot wait for the end")?;
    let plane = namespace::ready(Access::Change, Room::default())?;
    let mut worker = Worker::new(&daemon, device, plane)?;
    let plane = worker.plane();
    plane.note_daemon(&daemon);
    plane.directory.unlock();
    Ok(Begun { daemon, device, worker, stop, _running: running })
}

/// A descriptor that becomes readable when the process is told to end.
fn stop_signal() -> nix::Result<SignalFd> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)
}
