//! `drain --director`: takes this director out of its fleet, so that routers send its packets to the other ones.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::drain::{Interruption, TICK};
use crate::grammar::subcommands::DrainArgs;
use lvs_director::dataplane::{self, Plane, PlaneDirector};
use lvs_director::director::{Access, Director, Wanted};
use lvs_director::rules::DestinationEntry;

/// No packet for so long: the routers send none any more.
const SILENCE: Duration = Duration::from_secs(2);

/// Has nothing of this director advertised, waits until no packet comes for a service any more or time is over, and tells what remains:
/// the status is 1 if packets still come. With `--undo`, has its addresses advertised again.
pub fn drain_director(arguments: &DrainArgs) -> Result<ExitCode> {
    let interruption = Interruption::new()?;
    set(!arguments.undo)?;
    if arguments.undo {
        return Ok(ExitCode::SUCCESS);
    }
    let begin = Instant::now();
    let deadline = arguments.timeout.map(|seconds| begin + Duration::from_secs(seconds.into()));
    let (mut before, mut silent) = (packets()?, begin);
    loop {
        let now = Instant::now();
        let is_silent = now - silent >= SILENCE;
        if is_silent || deadline.is_some_and(|deadline| now >= deadline) {
            let packets = if is_silent { "no packet comes any more" } else { "packets still come" };
            let (active, inactive) = left()?;
            super::output::print(&format!("director: {packets}; {active} active, {inactive} inactive\n"))?;
            return Ok(if is_silent { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        if interruption.within(TICK)? {
            eprintln!("lvsadm: interrupted: the director stays drained");
            return Ok(ExitCode::FAILURE);
        }
        let after = packets()?;
        if after != before {
            (before, silent) = (after, Instant::now());
        }
    }
}

/// The data plane of a director that advertises its addresses.
fn open(access: Access) -> Result<Plane> {
    let Some(plane) = dataplane::open(access)? else { bail!("nothing is loaded in this network namespace") };
    if plane.settings().sysctls.advertise_table == 0 {
        bail!("this director advertises nothing that could be taken back: set advertise_table, see lvsadm-fleet(7)");
    }
    Ok(plane)
}

/// Takes the director out of its fleet, or back into it.
fn set(drained: bool) -> Result<()> {
    open(Access::Change)?.drain_director(drained).context("the director's addresses")
}

/// Packets from clients so far. An error if somebody had the director serve again.
fn packets() -> Result<u64> {
    let plane = open(Access::Read)?;
    if plane.settings().drained == 0 {
        bail!("somebody had this director serve again: it is not drained");
    }
    Ok(plane.total_counted().in_packets)
}

/// Connections that the table still has: active and inactive ones.
fn left() -> Result<(u64, u64)> {
    let mut director = PlaneDirector::new(open(Access::Read)?);
    director.unlock();
    let services = director.services(Wanted { destinations: true, ..Wanted::default() })?;
    let of = |count: fn(&DestinationEntry) -> u32| {
        services.iter().flat_map(|entry| &entry.destinations).map(|entry| u64::from(count(entry))).sum()
    };
    Ok((of(|entry| entry.active), of(|entry| entry.inactive)))
}
