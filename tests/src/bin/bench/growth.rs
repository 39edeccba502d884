//! What a packet of an established connection costs as flows and the table's fill grow, and where two CPUs work at once.

use std::sync::Barrier;
use std::thread;

use anyhow::{Context, Result, ensure};
use aya::programs::ProgramFd;
use lvs_common::abi::bench::Run;
use tests::fixtures::{self, CLIENT_MAC, MODES, Port, Testbed, xdp_verdict};

use crate::affinity::pinned_to;
use crate::flows::{self, Kind};
use crate::latency::{SCATTERED, client, family};
use crate::report::{Report, Spread};
use crate::wrapper::{Wrapper, descriptor};

/// How many flows there are.
const FLOWS: [u32; 7] = [1, 64, 1024, 16_384, 32_768, 65_536, 1 << 20];
/// Connections that the table has room for then.
const ROOM: u32 = 1 << 22;

/// How full the table is, percent, and what it has room for.
const FILL: [u32; 4] = [1, 12, 50, 87];
const SMALL_ROOM: u32 = 1 << 18;
/// Flows that come beside those before to make it so: a run has a power of 2 of them.
const MORE: [&[u32]; 4] = [&[1 << 11], &[1 << 14, 1 << 13, 1 << 12], &[1 << 16, 1 << 15], &[1 << 16, 1 << 15]];
/// Flows that are measured in it.
const MEASURED: u32 = 1024;

/// Flows of each of two CPUs.
const OF_EACH: u32 = 1024;

/// The forwarding methods that are measured.
const METHODS: [(&str, &str); 3] = [("NAT", "nat to another port"), ("DR", "dr"), ("ipip", "ipip")];

/// Figures over a growing number, for a plot.
pub struct Growth {
    /// What grows.
    pub over: &'static str,
    /// Its values.
    pub at: Vec<f64>,
    /// Names, and ns for each value.
    pub series: Vec<(String, Vec<f64>)>,
}

/// A testbed with a table of this room.
fn testbed(room: u32) -> Result<Testbed> {
    let testbed = Testbed::new()?;
    testbed.director.lvsadm(&format!("attach --mode native --conns {room}"))?;
    testbed.restore(&fixtures::rules())?;
    Ok(testbed)
}

/// Measures all of it.
pub fn measure(report: &mut Report, rounds: usize, packets: u64) -> Result<Vec<Growth>> {
    let flows = over_flows(report, rounds, packets)?;
    let fill = over_fill(report, rounds, packets)?;
    two_cpus(report, rounds, packets)?;
    Ok(vec![flows, fill])
}

/// Clients' requests to a service, and the packets after them.
fn runs(testbed: &Testbed, mode: &str, v6: bool, from: usize, count: u32) -> Result<[Run; 2]> {
    let number = MODES.iter().position(|known| known.name == mode).context("no such mode")?;
    let (macs, to) = ((testbed.front.mac, CLIENT_MAC), fixtures::service(number, v6));
    let run = |kind, order| anyhow::Ok(Run { order, ..flows::run(kind, macs, client(v6, from), to, count)? });
    Ok([run(Kind::Syn, 1)?, run(Kind::Ack, SCATTERED)?])
}

/// What is timed.
struct Bench {
    wrapper: Wrapper,
    ours: ProgramFd,
    nothing: ProgramFd,
    grow: ProgramFd,
    port: Port,
}

impl Bench {
    fn new(ours: &ProgramFd, port: Port) -> Result<Self> {
        let mut wrapper = Wrapper::new(0)?;
        let (nothing, grow) = (wrapper.floor("floor_drop")?, wrapper.floor("floor_grow")?);
        Ok(Bench { wrapper, ours: ours.try_clone()?, nothing, grow, port })
    }

    /// Opens flows: their requests, then a packet of each that establishes it.
    fn open(&mut self, [requests, established]: &[Run; 2]) -> Result<()> {
        for run in [requests, &Run { order: 1, ..*established }] {
            let opened = self.wrapper.time(&self.ours, run, self.port, u64::from(run.flows).max(4096))?;
            let (flows, verdict) = (run.flows, opened.verdict);
            ensure!(verdict == xdp_verdict::REDIRECT, "one of {flows} new connections: verdict {verdict}");
        }
        Ok(())
    }

    /// Net ns of a packet. `grows`: it leaves longer, which the wrapper undoes.
    fn time(&mut self, run: &Run, packets: u64, grows: bool) -> Result<f64> {
        let base = self.wrapper.time(&self.nothing, run, self.port, packets)?.ns;
        let timing = self.wrapper.time(&self.ours, run, self.port, packets)?;
        ensure!(timing.verdict == xdp_verdict::REDIRECT, "an established packet: verdict {}", timing.verdict);
        // Of the pair of resizings that the grower and the wrapper make, half is the wrapper's.
        let resizing =
            if grows { (self.wrapper.time(&self.grow, run, self.port, packets)?.ns - base) / 2.0 } else { 0.0 };
        Ok(timing.ns - base - resizing)
    }
}

/// Established TCP packets of more and more flows.
fn over_flows(report: &mut Report, rounds: usize, packets: u64) -> Result<Growth> {
    let testbed = testbed(ROOM)?;
    let rows: Vec<_> = METHODS.iter().flat_map(|method| [false, true].map(|v6| (*method, v6))).collect();
    let names = rows.iter().map(|((name, _), v6)| format!("{name} {}", family(*v6)));
    let times = testbed.with_programs(|programs| {
        let mut bench = Bench::new(&descriptor(&programs.xdp)?, testbed.front)?;
        let mut times = vec![[const { Vec::new() }; FLOWS.len()]; rows.len()];
        // Few flows first: those of more are opened later, and make the table no warmer.
        for (at, count) in FLOWS.iter().enumerate() {
            let cases = rows.iter().map(|((_, mode), v6)| runs(&testbed, mode, *v6, 10 + at, *count));
            let cases = cases.collect::<Result<Vec<_>>>()?;
            cases.iter().try_for_each(|case| bench.open(case))?;
            for _ in 0..rounds {
                for (row, [_, run]) in cases.iter().enumerate() {
                    times[row][at].push(bench.time(run, packets, rows[row].0.0 == "ipip")?);
                }
            }
        }
        Ok(times)
    })?;
    let columns = FLOWS.map(|count| format!("{count} flows"));
    let mut grid = report.grid("flows", "XDP, net ns per established TCP packet", &columns, "ns");
    let mut series = Vec::new();
    for (name, mut times) in names.zip(times) {
        let spreads = times.each_mut().map(|times| Spread::of(times));
        grid.spread_row(&name, &spreads);
        series.push((name, spreads.iter().map(|spread| spread.median).collect()));
    }
    Ok(Growth { over: "flows", at: FLOWS.map(f64::from).to_vec(), series })
}

/// Established TCP packets of few flows, in a table that gets fuller.
fn over_fill(report: &mut Report, rounds: usize, packets: u64) -> Result<Growth> {
    let testbed = testbed(SMALL_ROOM)?;
    let mut times = testbed.with_programs(|programs| {
        let mut bench = Bench::new(&descriptor(&programs.xdp)?, testbed.front)?;
        let mut times = [const { Vec::new() }; FILL.len()];
        for (at, more) in MORE.iter().enumerate() {
            for (number, count) in more.iter().enumerate() {
                bench.open(&runs(&testbed, METHODS[0].1, false, 20 + 16 * at + 4 * number, *count)?)?;
            }
            let measured = runs(&testbed, METHODS[0].1, false, 100 + at, MEASURED)?;
            bench.open(&measured)?;
            for _ in 0..rounds {
                times[at].push(bench.time(&measured[1], packets, false)?);
            }
        }
        Ok(times)
    })?;
    let spreads = times.each_mut().map(|times| Spread::of(times));
    let columns = FILL.map(|fill| format!("{fill} % full"));
    let title = format!("the same of {MEASURED} flows, in a table for {SMALL_ROOM} connections");
    report.grid("fill", &title, &columns, "ns").spread_row("NAT v4", &spreads);
    let series = vec![("NAT v4".to_owned(), spreads.map(|spread| spread.median).to_vec())];
    Ok(Growth { over: "fill of the table, %", at: FILL.map(f64::from).to_vec(), series })
}

/// Established packets of one destination on one CPU, and on two at once.
fn two_cpus(report: &mut Report, rounds: usize, packets: u64) -> Result<()> {
    let testbed = testbed(SMALL_ROOM)?;
    let [mut alone, mut together] = testbed.with_programs(|programs| {
        let ours = descriptor(&programs.xdp)?;
        let mut benches = [Bench::new(&ours, testbed.front)?, Bench::new(&ours, testbed.front)?];
        let mut cases = Vec::new();
        for (cpu, bench) in benches.iter_mut().enumerate() {
            let case = runs(&testbed, METHODS[0].1, false, 50 + cpu, OF_EACH)?;
            bench.open(&case)?;
            cases.push(case[1]);
        }
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            times[0].push(pinned_to(1, || benches[1].time(&cases[1], packets, false))?);
            let start = Barrier::new(2);
            let both = thread::scope(|scope| {
                let threads: Vec<_> = (0..)
                    .zip(&mut benches)
                    .zip(&cases)
                    .map(|((cpu, bench), run)| {
                        let start = &start;
                        scope.spawn(move || {
                            pinned_to(cpu, || {
                                start.wait();
                                bench.time(run, packets, false)
                            })
                        })
                    })
                    .collect();
                threads
                    .into_iter()
                    .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                    .collect::<Result<Vec<f64>>>()
            })?;
            times[1].push(both.iter().sum::<f64>() / both.len() as f64);
        }
        Ok(times)
    })?;
    let (alone, together) = (Spread::of(&mut alone), Spread::of(&mut together));
    report.section("Two CPUs, one destination, net ns per NAT packet", "one CPU alone");
    report.add_spread("two CPUs", "one CPU", alone, "ns", Some(1.0));
    report.add_spread("two CPUs", "two CPUs at once", together, "ns", Some(together.median / alone.median));
    Ok(())
}
