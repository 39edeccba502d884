//! The soak: every way of forwarding at once, for hours, while everything around it changes.
//!
//! Run it by `cargo xtask soak`. Each stand is a network of its own with a director: long streams whose every byte is compared, short
//! requests, floods, edits, other tiers, devices that come and go. Beside them a pair of directors loses the active one again and again.
//! At the end each stream has to be whole and every counter 0, and neither the maps, the pins nor the agent may be larger than under load a
//! minute after the beginning.

mod failovers;
mod stand;
mod work;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tests::balanced::{DR, FULLNAT_TOA, GRE, GUE, IPIP, Mode, NAT, VXLAN};
use tests::topology::is_root;

use crate::failovers::Failovers;
use crate::stand::{Report, Stand};

/// What the stands forward by.
const MODES: [(&str, Mode); 7] = [
    ("NAT", NAT),
    ("DR", DR),
    ("TUN ipip", IPIP),
    ("TUN gue", GUE),
    ("TUN gre", GRE),
    ("TUN vxlan", VXLAN),
    ("FullNAT", FULLNAT_TOA),
];

/// How often the time that is left is printed.
const TELL: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let seconds = std::env::args().nth(1).context("for how many seconds?")?;
    let duration = Duration::from_secs(seconds.parse().context("seconds are a number")?);
    if !is_root() {
        bail!("it makes network namespaces and loads eBPF programs: run it as root");
    }
    println!("setting up {} stands and a pair", MODES.len());
    let stands: Result<Vec<Stand>> = MODES.into_iter().map(|(name, mode)| Stand::new(name, mode)).collect();
    let (stands, until) = (stands?, Instant::now() + duration);
    println!("soaking for {} s", duration.as_secs());
    let (reports, pair) = thread::scope(|scope| {
        let pair = scope.spawn(move || Failovers::run(until));
        let workers: Vec<_> = stands.into_iter().map(|stand| scope.spawn(move || stand.run(until))).collect();
        while let left = until.saturating_duration_since(Instant::now())
            && !left.is_zero()
        {
            thread::sleep(left.min(TELL));
            println!("{} s left", until.saturating_duration_since(Instant::now()).as_secs());
        }
        println!("waiting until every connection has ended");
        let reports: Vec<_> =
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| Report::panicked())).collect();
        (reports, pair.join().unwrap_or_else(|_| Failovers::panicked()))
    });
    println!("\n{}", Report::HEADER);
    reports.iter().for_each(|report| println!("{report}"));
    println!("\n{pair}");
    let faults: Vec<&String> = reports.iter().flat_map(|report| &report.faults).chain(&pair.faults).collect();
    faults.iter().for_each(|fault| println!("FAULT {fault}"));
    if !faults.is_empty() {
        bail!("{} faults", faults.len());
    }
    Ok(())
}
