//! Observing the data plane of this network namespace until there is an end.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lvs_director::dataplane::observe::{Observer, Sight, Wish};
use lvs_director::dataplane::{self, Plane};
use lvs_director::director::Access;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// How often it is looked whether the data plane has other programs now.
const LOOK: Duration = Duration::from_secs(1);
/// How long reports wait until they are read.
const PAUSE: Duration = Duration::from_millis(10);

/// Bytes of so many MiB, as the kernel takes memory for reports.
pub fn memory(mib: u32) -> u32 {
    (mib << 20).next_power_of_two()
}

/// Observing.
pub struct Watch {
    observer: Observer,
    wish: Wish,
    stop: SignalFd,
    end: Option<Instant>,
    looked: Instant,
    /// Lost by observers that were replaced.
    lost: u64,
}

/// Has the data plane's packets observed.
fn observe(wish: &Wish) -> Result<Observer> {
    let Some(plane) = dataplane::open(Access::Change)? else {
        bail!("nothing is loaded in this network namespace: no packet is balanced");
    };
    Ok(Observer::start(plane, wish)?)
}

/// A descriptor that becomes readable when the process is told to end, which does not end it any more.
fn signals() -> Result<SignalFd> {
    let mut signals = SigSet::empty();
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().for_each(|signal| signals.add(signal));
    signals.thread_block()?;
    Ok(SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

impl Watch {
    /// Begins, for so long at most.
    pub fn start(wish: Wish, time: Option<Duration>) -> Result<Self> {
        // From here on a signal ends it in order.
        let stop = signals()?;
        let observer = observe(&wish)?;
        let now = Instant::now();
        Ok(Watch { observer, wish, stop, end: time.map(|time| now + time), looked: now, lost: 0 })
    }

    /// The data plane.
    pub fn plane(&self) -> &Plane {
        self.observer.plane()
    }

    /// How many reports were lost for want of memory.
    pub fn lost(&self) -> u64 {
        self.lost + self.observer.lost()
    }

    /// Waits for reports, which may be none. `None` at the end: at a signal, or when the time is over.
    pub fn next(&mut self) -> Result<Option<Vec<Sight>>> {
        let now = Instant::now();
        if self.end.is_some_and(|end| end <= now) {
            return Ok(None);
        }
        if now.duration_since(self.looked) >= LOOK {
            self.looked = now;
            if self.observer.is_current() { self.observer.renew()? } else { self.begin_anew()? }
        }
        let pause = self.end.map_or(PAUSE, |end| end.saturating_duration_since(now)).min(PAUSE);
        let mut stop = [PollFd::new(self.stop.as_fd(), PollFlags::POLLIN)];
        match poll(&mut stop, PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("cannot wait for packets"),
        }
        let is_over = stop[0].any().unwrap_or_default();
        Ok((!is_over).then(|| self.observer.read()))
    }

    /// Stops observing: what was reported before.
    pub fn finish(&mut self) -> Vec<Sight> {
        self.observer.stop();
        self.observer.read()
    }

    /// The data plane's programs were replaced, or it serves other devices now.
    fn begin_anew(&mut self) -> Result<()> {
        self.observer.stop();
        self.lost += self.observer.lost();
        self.observer = observe(&self.wish)?;
        Ok(())
    }
}
