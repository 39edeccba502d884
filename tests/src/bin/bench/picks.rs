//! What a scheduler's pick costs, by how many destinations there are.
//!
//! Packets of many clients go the data plane's own way up to the pick, and end where the connection would be opened. So
//! counts of connections stay what they were set to: none is idle, and nobody is picked for that. The same way with no
//! scheduler is what a pick's time is net of.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, MapData, ProgramArray};
use aya::programs::ProgramFd;
use lvs_common::abi::Destination;
use lvs_common::sched::SCHEDULERS;
use tests::fixtures::{CLIENT_MAC, SERVER, Testbed, pins, vip, xdp_verdict};

use lvs_common::programs::Program;

use crate::connections::{SERVERS, pinned};
use crate::flows::{self, Kind};
use crate::latency::{MANY, client};
use crate::report::Report;
use crate::wrapper::{Wrapper, descriptor, median};

/// Picks of one measurement.
const BATCH: u64 = 8192;
/// Number of the program that opens an IPv4 connection, among those reached by tail call.
const OPEN4: u32 = Program::Open.slot(true);

/// A scheduler with weights that it is measured with.
struct Case {
    name: &'static str,
    scheduler: &'static str,
    /// Weight of the server with a port.
    weight: fn(u16) -> u32,
}

/// Every scheduler, and wrr where it is slowest: most of its picks pass all servers but one.
fn cases() -> Vec<Case> {
    let alike = |name| Case { name, scheduler: name, weight: |port| 50 + u32::from(port) % 50 };
    let one_heavy =
        Case { name: "wrr, one heavy", scheduler: "wrr", weight: |port| if port == 1 { 1_000_000 } else { 1 } };
    SCHEDULERS
        .iter()
        .map(|(_, traits)| traits.name)
        .filter(|name| *name != NONE)
        .map(alike)
        .chain([one_heavy])
        .collect()
}

/// The scheduler that picks nobody.
const NONE: &str = "none";

/// The service of a case with the `n`th number of servers.
fn service(case: usize, n: usize) -> SocketAddr {
    SocketAddr::new(vip(false), 3000 + (case * SERVERS.len() + n) as u16)
}

/// The service of no scheduler.
fn unscheduled() -> SocketAddr {
    SocketAddr::new(vip(false), 2999)
}

fn rules() -> Vec<String> {
    let mut rules = vec![format!("-A -t {} -s {NONE}", unscheduled())];
    for (c, Case { scheduler, weight, .. }) in cases().iter().enumerate() {
        for (n, servers) in SERVERS.iter().enumerate() {
            rules.push(format!("-A -t {} -s {scheduler}", service(c, n)));
            let server =
                |port| format!("-a -t {} -r {}:{port} -m -w {}", service(c, n), SERVER.of(false), weight(port));
            rules.extend((1..=*servers).map(server));
        }
    }
    rules
}

/// Gives every destination connections, active ones fewer than its weight.
fn load() -> Result<()> {
    const CONNECTIONS: usize = std::mem::offset_of!(Destination, connections) / 8;
    let mut dests: Array<_, [u64; size_of::<Destination>() / 8]> = pinned("DESTS")?.try_into()?;
    let servers: u32 = SERVERS.iter().map(|servers| u32::from(*servers)).sum();
    for id in 1..=cases().len() as u32 * servers {
        let (active, inactive) = (u64::from(1 + id * 7 % 40), u64::from(id * 13 % 300));
        let mut dest = dests.get(&id, 0)?;
        dest[CONNECTIONS] = active << 32 | inactive;
        dests.set(id, dest, 0)?;
    }
    Ok(())
}

/// Ends every packet where its connection would be opened.
fn end_at_opening(end: &ProgramFd) -> Result<()> {
    let programs = MapData::from_pin(pins()?.join("XDP_PROGRAMS")).context("no map XDP_PROGRAMS")?;
    let mut programs = ProgramArray::try_from(aya::maps::Map::from_map_data(programs)?)?;
    Ok(programs.set(OPEN4, end, 0)?)
}

/// Measures every scheduler.
pub fn measure(report: &mut Report, rounds: usize) -> Result<()> {
    let testbed = Testbed::new()?;
    testbed.director.lvsadm("attach --mode native")?;
    testbed.restore(&rules())?;
    testbed.with_programs(|programs| {
        let mut wrapper = Wrapper::new(0)?;
        let (ours, end) = (descriptor(&programs.xdp)?, wrapper.floor("floor_drop")?);
        load()?;
        end_at_opening(&end)?;
        let mut time = |to| {
            let macs = (testbed.front.mac, CLIENT_MAC);
            let run = flows::run(Kind::Syn, macs, client(false, 100), to, MANY)?;
            let timing = wrapper.time(&ours, &run, testbed.front, BATCH)?;
            ensure!(timing.verdict == xdp_verdict::DROP, "a pick: verdict {}", timing.verdict);
            Ok(timing.ns)
        };
        let cases = cases();
        let mut times = vec![vec![Vec::new(); SERVERS.len()]; cases.len()];
        for _ in 0..rounds {
            for (case, times) in times.iter_mut().enumerate() {
                for (n, times) in times.iter_mut().enumerate() {
                    let base = time(unscheduled())?;
                    times.push(time(service(case, n))? - base);
                }
            }
        }
        let columns = SERVERS.map(|servers| format!("{servers} servers"));
        let mut grid = report.grid("pick", "XDP, net ns per pick", &columns, "ns");
        for (case, times) in cases.iter().zip(&mut times) {
            let row: Vec<f64> = times.iter_mut().map(|times| median(times)).collect();
            grid.row(case.name, &row);
        }
        Ok(())
    })
}
