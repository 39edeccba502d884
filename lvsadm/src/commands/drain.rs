//! `drain`: takes a real server out of service without its clients noticing.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;

use crate::grammar::Dialect;
use crate::grammar::subcommands::DrainArgs;
use crate::names::SystemNames;
use crate::render::Labels;
use lvs_director::dataplane::{self, PlaneDirector};
use lvs_director::director::{self, Access, Director, Operation, Wanted};
use lvs_director::rules::{Destination, DestinationEntry, DestinationKey, ServiceKey};

/// Between looks at what is left.
pub(super) const TICK: Duration = Duration::from_millis(200);
/// How often what is left is ended: a packet may have opened one more connection in between.
const ROUNDS: u32 = 10;

/// A real server of a service.
struct Server {
    service: ServiceKey,
    key: DestinationKey,
}

/// What refers to a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Left {
    active: u32,
    inactive: u32,
    persistent: u32,
}

impl Left {
    fn is_nothing(self) -> bool {
        self == Left { active: 0, inactive: 0, persistent: 0 }
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} active, {} inactive, {} persistent", self.active, self.inactive, self.persistent)
    }
}

/// How waiting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// With nothing left, or no time.
    Over,
    /// By a signal.
    Interrupted,
}

/// Sets the weight to 0, waits until nothing refers to the server any more or time is over, ends the rest if that is wanted,
/// and tells what remains: the status is 1 if anything does.
pub fn drain(arguments: &DrainArgs) -> Result<ExitCode> {
    let (service, key) = arguments.keys(&mut SystemNames::default())?;
    let server = Server { service, key };
    let interruption = Interruption::new()?;
    server.quiesce()?;
    let deadline = arguments.timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds.into()));
    let (mut left, end) = server.wait(deadline, &interruption)?;
    if end == End::Over && arguments.reset && !left.is_nothing() {
        super::output::print(&format!("{server}: {left}: ended now\n"))?;
        left = server.end(&interruption)?;
    }
    super::output::print(&format!("{server}: {left}\n"))?;
    if end == End::Interrupted {
        eprintln!("lvsadm: interrupted: the weight of {server} stays 0");
    }
    Ok(if left.is_nothing() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Server {
    /// The director. Its lock is held no longer than it is looked at.
    fn director() -> Result<PlaneDirector> {
        match dataplane::open(Access::Change)? {
            Some(plane) => Ok(PlaneDirector::new(plane)),
            None => bail!("nothing is loaded in this network namespace"),
        }
    }

    /// The server as it is listed.
    fn look(&self, director: &PlaneDirector) -> Result<DestinationEntry> {
        let error = |error: director::Error| anyhow!(error.text(Operation::EditDestination).into_owned());
        let entry =
            director.service(&self.service, Wanted { destinations: true, ..Wanted::default() }).map_err(error)?;
        let found = entry.destinations.into_iter().find(|listed| listed.destination.key == self.key);
        found.ok_or_else(|| error(director::Error::NotFound))
    }

    /// Sets the weight to 0, whatever else is configured.
    fn quiesce(&self) -> Result<()> {
        let mut director = Self::director()?;
        let DestinationEntry { destination, persistent, .. } = self.look(&director)?;
        if destination.weight != 0 {
            director.edit_destination(&self.service, &Destination { weight: 0, ..destination })?;
        }
        if persistent != 0 && director.sysctls()?.expire_quiescent_template == 0 {
            eprintln!(
                "lvsadm: persistence leads clients to {self} still: `lvsadm sysctl expire_quiescent_template=1' sends their new \
                 connections elsewhere"
            );
        }
        Ok(())
    }

    /// What is left. An error if somebody took the server away, or back into service.
    fn left(&self, director: &PlaneDirector) -> Result<Left> {
        let entry = self.look(director).with_context(|| format!("{self} is not there any more"))?;
        if entry.destination.weight != 0 {
            bail!("somebody set the weight of {self} to {}: it is not drained", entry.destination.weight);
        }
        Ok(Left { active: entry.active, inactive: entry.inactive, persistent: entry.persistent })
    }

    /// Waits until nothing is left, the deadline has come, or a signal has.
    fn wait(&self, deadline: Option<Instant>, interruption: &Interruption) -> Result<(Left, End)> {
        let mut progress = Progress::default();
        loop {
            let left = self.left(&Self::director()?)?;
            let rest = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_nothing() || rest == Some(Duration::ZERO) {
                return Ok((left, End::Over));
            }
            progress.show(self, left, rest);
            if interruption.within(TICK.min(rest.unwrap_or(TICK)))? {
                return Ok((left, End::Interrupted));
            }
        }
    }

    /// Ends what is left: what could not be ended.
    fn end(&self, interruption: &Interruption) -> Result<Left> {
        for _ in 0..ROUNDS {
            let mut director = Self::director()?;
            director.end_connections(&self.service, &self.key)?;
            let left = self.left(&director)?;
            drop(director);
            if left.is_nothing() || interruption.within(TICK)? {
                return Ok(left);
            }
        }
        self.left(&Self::director()?)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Labels::numeric(Dialect::Own).endpoint(self.key.address, self.key.port, None))
    }
}

/// A line on a terminal that tells how it goes, and is gone when it is over.
#[derive(Default)]
struct Progress {
    shown: bool,
}

impl Progress {
    fn show(&mut self, server: &Server, left: Left, rest: Option<Duration>) {
        if !io::stderr().is_terminal() {
            return;
        }
        let rest = rest.map(|rest| format!("; {} s more", rest.as_secs())).unwrap_or_default();
        eprint!("\r\x1b[K{server}: {left}{rest}");
        // Nothing depends on it.
        let _ = io::stderr().flush();
        self.shown = true;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            eprint!("\r\x1b[K");
        }
    }
}

/// Signals that end the waiting.
pub(super) struct Interruption(SignalFd);

impl Interruption {
    /// Takes them from now on.
    pub(super) fn new() -> Result<Self> {
        let mut signals = SigSet::empty();
        [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().for_each(|signal| signals.add(signal));
        signals.thread_block().context("cannot block signals")?;
        SignalFd::new(&signals).map(Interruption).context("cannot wait for signals")
    }

    /// Whether one comes within so long.
    pub(super) fn within(&self, time: Duration) -> Result<bool> {
        let mut ready = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        let time = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
        match poll(&mut ready, time) {
            // The process was stopped, and goes on.
            Err(Errno::EINTR) => Ok(false),
            ready => Ok(ready.context("cannot wait")? != 0),
        }
    }
}
