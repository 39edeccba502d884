//! The benchmark: `bench [--quick] [--only PART] [--json FILE] [--compare FILE] [--plots FOLDER]`, as root. See the modules for what each part measures and how.
//!
//! Figures of a busy machine vary; only ratios within one run say anything. What is compared is measured in turns.

mod affinity;
mod call;
mod challenges;
mod commands;
mod compare;
mod connections;
mod endpoint;
mod flows;
mod growth;
mod latency;
mod observers;
mod picks;
mod plot;
mod ports;
mod report;
mod scale;
mod throughput;
mod translation;
mod wrapper;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use tests::topology::is_root;

use affinity::pinned_to;
use report::Report;

/// How thoroughly to measure.
struct Effort {
    rounds: usize,
    packets: u64,
    seconds: f64,
}

const FULL: Effort = Effort { rounds: 7, packets: 400_000, seconds: 0.7 };
const QUICK: Effort = Effort { rounds: 1, packets: 40_000, seconds: 0.2 };

/// What can be measured by itself.
const PARTS: [&str; 11] = [
    "packets",
    "observers",
    "growth",
    "schedulers",
    "ports",
    "challenges",
    "table",
    "commands",
    "endpoint",
    "scale",
    "throughput",
];
const USAGE: &str = "usage: bench [--quick] [--only packets|observers|growth|schedulers|ports|challenges|table|commands|endpoint|scale|throughput] \
                     [--json FILE] [--compare FILE] [--plots FOLDER]";

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
    let (mut effort, mut only) = (FULL, None);
    let (mut file, mut earlier, mut plots) = (None, None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => effort = QUICK,
            "--only" => only = Some(arguments.next().filter(|part| PARTS.contains(&part.as_str())).context(USAGE)?),
            "--json" => file = Some(PathBuf::from(arguments.next().context(USAGE)?)),
            // Before hours of work: it may not be there.
            "--compare" => earlier = Some(Report::read(Path::new(&arguments.next().context(USAGE)?))?),
            "--plots" => plots = Some(PathBuf::from(arguments.next().context(USAGE)?)),
            _ => bail!(USAGE),
        }
    }
    ensure!(is_root(), "the benchmark makes network namespaces and loads eBPF programs: run it as root");
    let mut report = Report::default();
    let wants = |part| only.as_ref().is_none_or(|only| only == part);
    pinned_to(1, || {
        if wants("packets") {
            latency::steady(&mut report, effort.rounds, effort.packets)?;
            translation::measure(&mut report, (effort.packets / 40) as usize)?;
        }
        if wants("observers") {
            observers::measure(&mut report, effort.rounds, effort.packets)?;
        }
        if wants("schedulers") {
            connections::new(&mut report, effort.rounds)?;
            picks::measure(&mut report, effort.rounds)?;
        }
        if wants("challenges") {
            challenges::measure(&mut report, effort.rounds)?;
        }
        if wants("ports") {
            ports::new(&mut report, effort.rounds)?;
        }
        if wants("table") {
            connections::full(&mut report, effort.rounds)?;
            connections::table(&mut report, 4.0 * effort.seconds)?;
        }
        if wants("growth") {
            let growths = growth::measure(&mut report, effort.rounds, effort.packets)?;
            plots.map_or(Ok(()), |folder| plot::draw(&growths, &folder))?;
        }
        Ok(())
    })?;
    if wants("commands") {
        commands::measure(&mut report, effort.rounds)?;
    }
    if wants("endpoint") {
        endpoint::measure(&mut report, effort.rounds)?;
    }
    if wants("scale") {
        scale::growth(&mut report, effort.rounds.min(3))?;
        scale::churn(&mut report, 15.0 * effort.seconds)?;
    }
    if wants("throughput") {
        throughput::measure(&mut report, effort.rounds.min(5), effort.seconds)?;
    }
    file.map_or(Ok(()), |file| report.write(&file))?;
    match earlier.map_or(0, |earlier| compare::compare(&earlier, &report)) {
        0 => Ok(()),
        worse => bail!("{worse} figures are worse by more than chance"),
    }
}
