//! New connections, the table's memory, and the sweep.

use std::mem::offset_of;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, Map, MapData};
use lvs_common::abi::bench::Run;
use lvs_common::abi::{Connection, Settings, WAYS};
use tests::fixtures::{CLIENT_MAC, SERVER, Testbed, pins, vip, xdp_verdict};

use crate::flows::{self, Kind};
use crate::latency::client;
use crate::report::Report;
use crate::wrapper::{Wrapper, descriptor, median};

/// New connections of one measurement.
pub const BATCH: u64 = 32_768;
/// Connections of the measurements on a full table.
pub const MILLION: u32 = 1 << 20;
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
pub fn requests(testbed: &Testbed, to: SocketAddr, flows: u32) -> Result<Run> {
    flows::run(Kind::Syn, (testbed.front.mac, CLIENT_MAC), client(false, 100), to, flows)
}

/// Forgets every IPv4 connection: a bucket without tags is empty.
pub fn forget() -> Result<()> {
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

/// The service of UDP whose connections fill the table.
const FILLING: &str = "-u 10.10.10.10:3000";
/// Seconds that they live: longer than filling and a look at the full table take.
const LIFETIME: u32 = 15;

/// What a million connections cost while nothing happens, and what it costs when all of them expire.
pub fn table(report: &mut Report, seconds: f64) -> Result<()> {
    let testbed = Testbed::new()?;
    let director = &testbed.director;
    director.lvsadm(&format!("attach --mode native --conns {MILLION}"))?;
    director.lvsadm(&format!("--set 0 0 {LIFETIME}"))?;
    director.lvsadm(&format!("-A {FILLING} -s rr"))?;
    for port in 1..=10 {
        director.lvsadm(&format!("-a {FILLING} -r {}:{port} -m", SERVER.of(false)))?;
    }
    report.section("the connection table", "");
    testbed.with_programs(|programs| {
        let mut wrapper = Wrapper::new(0)?;
        let ours = descriptor(&programs.xdp)?;
        let empty = sweep(seconds)?;
        let to = SocketAddr::new(vip(false), 3000);
        let run = flows::run(Kind::Datagram, (testbed.front.mac, CLIENT_MAC), client(false, 100), to, MILLION)?;
        wrapper.time(&ours, &run, testbed.front, u64::from(MILLION))?;
        let full = sweep(seconds)?;
        let (buckets, held) = occupied()?;
        let full_count: u64 = counted(&director.lvsadm("-Ln --exact")?)?.iter().sum();
        ensure!(full_count == held, "{held} connections are in the table, {full_count} are counted");
        let bytes = |entry: usize| f64::from(buckets) * (64 + entry * WAYS as usize) as f64 / f64::from(MILLION);
        let mut add = |name: &str, value: f64, unit| report.add("table", name, value, unit, None);
        add("bytes per IPv4 connection of capacity", bytes(size_of::<Connection<u32>>()), "bytes");
        add("bytes per IPv6 connection of capacity", bytes(size_of::<Connection<[u32; 4]>>()), "bytes");
        add("connections held", held as f64, "");
        add("sweep of an empty table, per second", empty, "µs");
        add("sweep of the full table, per second", full, "µs");
        let all = drain()?;
        add("all of them expire, per connection", all / held as f64, "ns");
        let rest = counted(&director.lvsadm("-Ln --exact")?)?;
        ensure!(rest.iter().all(|count| *count == 0), "counters are not back at zero: {rest:?}");
        add("destinations' counters of connections after that", rest.iter().sum::<u64>() as f64, "");
        Ok(())
    })
}

/// Connections of the table that is full while new ones come.
const SMALL: u32 = 1 << 16;
/// Flows that fill all of its ways.
const OVERFLOWING: u32 = 2 * SMALL;

/// What a new connection costs in a full table: where another gives way to it, and where it is refused.
pub fn full(report: &mut Report, rounds: usize) -> Result<()> {
    let testbed = Testbed::new()?;
    testbed.director.lvsadm(&format!("attach --mode native --conns {SMALL}"))?;
    let to = |port| SocketAddr::new(vip(false), port);
    let mut rules = Vec::new();
    for service in [format!("-t {}", to(3000)), format!("-u {}", to(3000)), format!("-u {}", to(3001))] {
        rules.push(format!("-A {service} -s rr"));
        rules.extend((1..=10).map(|port| format!("-a {service} -r {}:{port} -m", SERVER.of(false))));
    }
    testbed.restore(&rules)?;
    report.section("XDP, net ns per new connection in a full table", "");
    testbed.with_programs(|programs| {
        let mut wrapper = Wrapper::new(0)?;
        let (ours, nothing) = (descriptor(&programs.xdp)?, wrapper.floor("floor_drop")?);
        let macs = (testbed.front.mac, CLIENT_MAC);
        let flows = |kind, port, count| flows::run(kind, macs, client(false, 100), to(port), count);
        let new = flows(Kind::Datagram, 3001, MILLION)?;
        let mut times = [const { Vec::new() }; 3];
        for _ in 0..rounds {
            let base = wrapper.time(&nothing, &new, testbed.front, BATCH)?;
            let fillings: [&[Kind]; 3] = [&[], &[Kind::Datagram], &[Kind::Syn, Kind::Ack]];
            let verdicts = [xdp_verdict::REDIRECT, xdp_verdict::REDIRECT, xdp_verdict::DROP];
            for ((filling, verdict), times) in fillings.iter().zip(verdicts).zip(&mut times) {
                forget()?;
                for kind in *filling {
                    wrapper.time(&ours, &flows(*kind, 3000, OVERFLOWING)?, testbed.front, OVERFLOWING.into())?;
                }
                let timing = wrapper.time(&ours, &new, testbed.front, BATCH)?;
                ensure!(timing.verdict == verdict, "a new connection: verdict {} instead of {verdict}", timing.verdict);
                times.push(timing.ns - base.ns);
            }
        }
        let names = ["table empty", "another gives way", "refused: all are established"];
        for (name, times) in names.into_iter().zip(&mut times) {
            report.add("full table", name, median(times), "ns", None);
        }
        Ok(())
    })
}

/// Buckets of the table of IPv4, and how many connections are in them.
fn occupied() -> Result<(u32, u64)> {
    let buckets: Array<_, [u64; 8]> = pinned("BUCKETS4")?.try_into()?;
    // `Bucket::used`, the lower half of the sixth word.
    let used = |index| buckets.get(&index, 0).map_or(0, |bucket| u64::from(bucket[5] as u32));
    Ok((buckets.len(), (0..buckets.len()).map(used).sum()))
}

/// Active and inactive connections of all destinations of a listing.
fn counted(listing: &str) -> Result<Vec<u64>> {
    let servers = listing.lines().filter(|line| line.contains(" Masq "));
    let numbers = servers.flat_map(|line| line.split_whitespace().skip(4));
    numbers.map(|number| Ok(number.parse()?)).collect()
}

/// The clock of the sweep.
struct Clock(Array<MapData, [u64; size_of::<Settings>() / 8]>);

impl Clock {
    fn open() -> Result<Self> {
        Ok(Clock(pinned("SETTINGS")?.try_into()?))
    }

    /// When the last slice began, and how many connections there were at the last second.
    fn read(&self) -> Result<(u64, u32)> {
        let words = self.0.get(&0, 0)?;
        let word = |at: usize| words[at / 8] >> (at % 8 * 8);
        Ok((word(offset_of!(Settings, now_ns)), word(offset_of!(Settings, held)) as u32))
    }
}

/// How long each slice of the sweep takes, ns, until `end` says that it is enough: the timer is set anew when a slice is done,
/// so the next begins later by as long as one takes.
fn slices(mut end: impl FnMut(u32) -> bool) -> Result<Vec<f64>> {
    let (clock, mut last, mut slices) = (Clock::open()?, 0, Vec::new());
    loop {
        let (now, held) = clock.read()?;
        if now != last && last != 0 {
            slices.push((now - last) as f64 - INTERVAL);
        }
        if end(held) {
            return Ok(slices);
        }
        last = now;
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What the sweep takes of a second, µs.
fn sweep(seconds: f64) -> Result<f64> {
    let begin = Instant::now();
    let mut slices = slices(|_| begin.elapsed().as_secs_f64() >= seconds)?;
    Ok(median(&mut slices) * (1e9 / INTERVAL) / 1000.0)
}

/// What the sweep takes until the table is empty, ns.
fn drain() -> Result<f64> {
    let deadline = Instant::now() + Duration::from_secs(120);
    let slices = slices(|held| held == 0 || Instant::now() > deadline)?;
    ensure!(Instant::now() < deadline, "connections do not expire");
    Ok(slices.iter().sum())
}
