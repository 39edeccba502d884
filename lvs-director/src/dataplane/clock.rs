//! The data plane's clock.

use lvs_common::abi::Connection as Entry;

use super::kernel::ticks_per_second;
use super::plane::Plane;

/// The data plane's clock, as the programs read it.
pub struct Clock {
    /// Jiffies.
    pub now: u64,
    hz: u64,
}

impl Clock {
    /// As it is now.
    pub fn of(plane: &Plane) -> Self {
        let settings = plane.settings();
        let hz = u64::from(ticks_per_second());
        let own = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
        let ns = own.map_or(settings.now_ns, |t| t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64);
        // The sweep's clock is a sixteenth of a second old at most.
        Clock { now: settings.now + ns.saturating_sub(settings.now_ns) * hz / 1_000_000_000, hz }
    }

    /// Seconds until a connection expires.
    pub fn left<A>(&self, c: &Entry<A>) -> u32 {
        let due = c.last_seen + u64::from(c.timeout);
        (due.saturating_sub(self.now) / self.hz) as u32
    }
}
