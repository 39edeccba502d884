//! The benchmark: `bench [--quick] [--json FILE]`, as root. See the modules for what each part measures and how.
//!
//! Figures of a busy machine vary; only ratios within one run say anything. What is compared is measured in turns.

mod commands;
mod connections;
mod flows;
mod latency;
mod report;
mod throughput;
mod wrapper;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use tests::topology::is_root;

use report::Report;

/// How thoroughly to measure.
struct Effort {
    rounds: usize,
    packets: u64,
    seconds: f64,
}

const FULL: Effort = Effort { rounds: 7, packets: 400_000, seconds: 0.7 };
const QUICK: Effort = Effort { rounds: 1, packets: 40_000, seconds: 0.2 };

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let (mut effort, mut file) = (FULL, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => effort = QUICK,
            "--json" => file = arguments.next().map(PathBuf::from),
            _ => bail!("usage: bench [--quick] [--json FILE]"),
        }
    }
    ensure!(is_root(), "the benchmark makes network namespaces and loads eBPF programs: run it as root");
    let mut report = Report::default();
    pinned_to(1, || {
        latency::steady(&mut report, effort.rounds, effort.packets)?;
        connections::new(&mut report, effort.rounds)?;
        connections::table(&mut report, 4.0 * effort.seconds)
    })?;
    commands::measure(&mut report, effort.rounds)?;
    throughput::measure(&mut report, effort.rounds.min(5), effort.seconds)?;
    file.map_or(Ok(()), |file| report.write(&file))
}

/// Runs `work` on one CPU, with the threads it starts.
fn pinned_to(cpu: usize, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let this = Pid::from_raw(0);
    let before = nix::sched::sched_getaffinity(this)?;
    let mut one = CpuSet::new();
    one.set(cpu)?;
    if before.is_set(cpu)? {
        sched_setaffinity(this, &one)?;
    }
    let result = work();
    sched_setaffinity(this, &before)?;
    result
}
