//! New connections, the table's memory, and the sweep.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, Map, MapData};
use lvs_common::abi::{Connection, WAYS};
use lvs_common::bench::Run;
use tests::fixtures::{CLIENT_MAC, SERVER, Testbed, pins, vip, xdp_verdict};

use crate::flows::{self, Kind};
use crate::latency::client;
use crate::report::Report;
use crate::wrapper::{Wrapper, descriptor, median};

/// New connections of one measurement.
const BATCH: u64 = 32_768;
/// Connections of the measurements on a full table.
const MILLION: u32 = 1 << 20;
/// Between two slices of the sweep, ns.
const INTERVAL: f64 = 62_500_000.0;

const SCHEDULERS: [&str; 3] = ["rr", "wlc", "mh"];
/// How many servers the services have whose schedulers are compared.
pub const SERVERS: [u16; 3] = [10, 100, 1000];

/// The service of a scheduler with a number of servers.
fn service(scheduler: usize, servers: usize) -> SocketAddr {
    SocketAddr::new(vip(false), 2000 + (scheduler * SERVERS.len() + servers) as u16)
}

fn rules() -> Vec<String> {
    let mut rules = Vec::new();
    for (s, scheduler) in SCHEDULERS.iter().enumerate() {
        for (n, servers) in SERVERS.iter().enumerate() {
            rules.push(format!("-A -t {} -s {scheduler}", service(s, n)));
            let server = |port| format!("-a -t {} -r {}:{port} -m", service(s, n), SERVER.of(false));
            rules.extend((1..=*servers).map(server));
        }
    }
    rules
}

/// Requests of clients that nobody has seen, `flows` of them.
fn requests(testbed: &Testbed, to: SocketAddr, flows: u32) -> Result<Run> {
    flows::run(Kind::Syn, (testbed.front.mac, CLIENT_MAC), client(false, 100), to, flows)
}

/// Forgets every IPv4 connection: a bucket without tags is empty.
fn forget() -> Result<()> {
    let mut buckets: Array<_, [u64; 8]> = pinned("BUCKETS4")?.try_into()?;
    for index in 0..buckets.len() {
        buckets.set(index, [0; 8], 0)?;
    }
    Ok(())
}

/// A map of this network namespace's data plane.
pub fn pinned(name: &str) -> Result<Map> {
    let data = MapData::from_pin(pins()?.join(name)).with_context(|| format!("no map {name}"))?;
    Ok(Map::from_map_data(data)?)
}

/// The cost of a connection's first packet.
pub fn new(report: &mut Report, rounds: usize) -> Result<()> {
    let testbed = Testbed::new()?;
    testbed.director.lvsadm("attach --mode native")?;
    testbed.restore(&rules())?;
    testbed.with_programs(|programs| {
        let mut wrapper = Wrapper::new(0)?;
        let (ours, nothing) = (descriptor(&programs.xdp)?, wrapper.floor("floor_drop")?);
        let mut times = vec![Vec::new(); SCHEDULERS.len() * SERVERS.len()];
        for _ in 0..rounds {
            for (index, times) in times.iter_mut().enumerate() {
                let run = requests(&testbed, service(index / SERVERS.len(), index % SERVERS.len()), MILLION)?;
                forget()?;
                let base = wrapper.time(&nothing, &run, testbed.front, BATCH)?;
                let timing = wrapper.time(&ours, &run, testbed.front, BATCH)?;
                ensure!(timing.verdict == xdp_verdict::REDIRECT, "a new connection: verdict {}", timing.verdict);
                times.push(timing.ns - base.ns);
            }
        }
        let times: Vec<f64> = times.iter_mut().map(|times| median(times)).collect();
        let columns = SERVERS.map(|servers| format!("{servers} servers"));
        let mut grid = report.grid("new", "XDP, net ns per new connection", &columns, "ns");
        for (scheduler, row) in SCHEDULERS.iter().zip(times.chunks(SERVERS.len())) {
            grid.row(scheduler, row);
        }
        let mut grid =
            report.grid("new rate", "the same, thousands of new connections a second and CPU", &columns, "k/s");
        for (scheduler, row) in SCHEDULERS.iter().zip(times.chunks(SERVERS.len())) {
            let rates: Vec<f64> = row.iter().map(|ns| 1e6 / ns).collect();
            grid.row(scheduler, &rates);
        }
        Ok(())
    })
}

/// What a million connections cost while nothing happens, and what one takes.
pub fn table(report: &mut Report, seconds: f64) -> Result<()> {
    let testbed = Testbed::new()?;
    testbed.director.lvsadm(&format!("attach --mode native --conns {MILLION}"))?;
    testbed.restore(&rules())?;
    report.section("the connection table", "");
    testbed.with_programs(|programs| {
        let mut wrapper = Wrapper::new(0)?;
        let ours = descriptor(&programs.xdp)?;
        let empty = sweep(seconds)?;
        let run = requests(&testbed, service(0, 0), MILLION)?;
        wrapper.time(&ours, &run, testbed.front, u64::from(MILLION))?;
        let full = sweep(seconds)?;
        let buckets: Array<_, [u64; 8]> = pinned("BUCKETS4")?.try_into()?;
        let held: u32 =
            (0..buckets.len()).map(|index| buckets.get(&index, 0).map_or(0, |bucket| bucket[5] as u32)).sum();
        let bytes = |entry: usize| (buckets.len() as usize * (64 + entry * WAYS as usize)) as f64 / f64::from(MILLION);
        report.add(
            "table",
            "bytes per IPv4 connection of capacity",
            bytes(size_of::<Connection<u32>>()),
            "bytes",
            None,
        );
        report.add(
            "table",
            "bytes per IPv6 connection of capacity",
            bytes(size_of::<Connection<[u32; 4]>>()),
            "bytes",
            None,
        );
        report.add("table", "connections held", f64::from(held), "", None);
        report.add("table", "sweep of an empty table, per second", empty, "µs", None);
        report.add("table", "sweep of the full table, per second", full, "µs", None);
        Ok(())
    })
}

/// What the sweep takes of a second, µs: its timer is set anew when a slice is done, so slices begin later by as long as
/// one takes.
fn sweep(seconds: f64) -> Result<f64> {
    /// Index of `Settings::now_ns`, in words.
    const NOW: usize = 2;
    let settings: Array<_, [u64; 33]> = pinned("SETTINGS")?.try_into()?;
    let (begin, mut last, mut delays) = (Instant::now(), 0, Vec::new());
    while begin.elapsed().as_secs_f64() < seconds {
        let now = settings.get(&0, 0)?[NOW];
        if now != last && last != 0 {
            delays.push((now - last) as f64 - INTERVAL);
        }
        last = now;
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(median(&mut delays) * (1e9 / INTERVAL) / 1000.0)
}
