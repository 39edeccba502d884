//! `cargo xtask`: sets a machine up, builds, lints, tests and shows the project.

mod audit;
mod bench;
mod build;
mod check;
mod deb;
mod demo;
mod fuzz;
mod kernels;
mod lint;
mod other_layout;
mod process;
mod reference;
mod sanitize;
mod setup;
mod soak;
mod structure;
mod test;
mod toolchain;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Build and test driver of the LVS eBPF load balancer",
    disable_help_subcommand = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check for what build, test and demo need, and install what is missing
    Setup,
    /// Build the eBPF objects and target/release/lvsadm, which embeds them
    Build {
        /// Also load every program and print how much work it was to verify
        #[arg(long, short)]
        verbose: bool,
    },
    /// Build a second lvsadm, whose maps have another layout, for tests of upgrades that are ignored without it
    OtherLayout,
    /// Check every crate with its own compiler, with cargo's JSON messages as output: for editors
    Check,
    /// Check formatting and run clippy on every crate, the eBPF one included
    Lint,
    /// Count files, imports and unsafe code of each crate, and fail on files that import each other in a circle
    Structure,
    /// Check licences, sources and advisories of the dependencies by deny.toml; installs cargo-deny if it is missing
    Audit,
    /// Run the tests of crates with unsafe code under AddressSanitizer, and those of lvs-common under Miri if there is one
    Sanitize,
    /// Write the chapters of docs/reference that are made from the code's own tables
    Docs,
    /// Set up, build, and run all tests; those on network namespaces need root
    Test {
        /// Only tests whose name contains this
        filter: Option<String>,
        /// Instead: boot Debian's kernel of this series (6.1) under QEMU, and run those tests there that prove a kernel fit; again for more
        #[arg(long, value_name = "SERIES")]
        kernel: Vec<String>,
        /// The same, with every series that apt offers from 6.1 on
        #[arg(long, conflicts_with = "kernel")]
        all_kernels: bool,
        /// Write the kernel's column of docs/numbers/verifier.md instead of comparing with it
        #[arg(long)]
        record: bool,
    },
    /// Search for inputs that break something: packets, synchronisation, TOA, rules, JSON, netlink. Without a target, list them
    Fuzz {
        /// What to fuzz
        target: Option<String>,
        /// For how long: 90s, 15m, 2h
        #[arg(long = "for", value_name = "TIME", default_value = "60s")]
        time: String,
        /// Search at random, faster than coverage allows
        #[arg(long)]
        random: bool,
        /// With --random: the first input's number
        #[arg(long, value_name = "NUMBER", requires = "random")]
        seed: Option<u64>,
    },
    /// Build, and run every way of forwarding at once beside edits, floods, failovers and device churn; at the end nothing may be left; needs root
    Soak {
        /// For how long
        #[arg(long, value_name = "NUMBER", default_value_t = 2.0)]
        hours: f64,
    },
    /// Set up, build, and measure the data plane beside floor programs, the kernel and nftables; needs root
    Bench {
        /// A look at everything instead of a measurement
        #[arg(long)]
        quick: bool,
        /// Only one part: packets, growth, schedulers, ports, challenges, table, commands, endpoint, scale or throughput
        #[arg(long, value_name = "PART")]
        only: Option<String>,
        /// Where to write the figures
        #[arg(long, value_name = "FILE", default_value = "target/bench.json")]
        json: PathBuf,
        /// Figures of an earlier run: fail if any is worse by more than 5 % beside its spread
        #[arg(long, value_name = "FILE")]
        compare: Option<PathBuf>,
        /// Where to draw what grows, as SVG
        #[arg(long, value_name = "FOLDER")]
        plots: Option<PathBuf>,
    },
    /// Build, and pack Debian packages into target/debian
    Deb {
        /// Also install them in a fresh Debian and boot that, in namespaces; needs root and Debian's archive
        #[arg(long)]
        check: bool,
    },
    /// Set up, build, and balance HTTP between network namespaces in each mode, and by a pair and a fleet of directors; needs root
    Demo {
        /// What to show: nat, dr, tun, fullnat, pair, fleet (default: all)
        modes: Vec<String>,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Setup => setup::run(),
        Command::Build { verbose } => build::run(verbose),
        Command::OtherLayout => other_layout::run(),
        Command::Check => check::run(),
        Command::Lint => lint::run(),
        Command::Audit => audit::run(),
        Command::Sanitize => sanitize::run(),
        Command::Docs => reference::write(),
        Command::Structure => structure::run(),
        Command::Test { filter, kernel, all_kernels, record } if all_kernels || !kernel.is_empty() => {
            kernels::run(&kernels::Wish { series: kernel, filter, record })
        }
        Command::Test { filter, record, .. } => test::run(filter.as_deref(), record),
        Command::Fuzz { target, time, random, seed } => {
            fuzz::seconds(&time).and_then(|seconds| fuzz::run(target.as_deref(), seconds, random, seed))
        }
        Command::Bench { quick, only, json, compare, plots } => {
            bench::run(quick, only.as_deref(), &json, compare.as_deref(), plots.as_deref())
        }
        Command::Soak { hours } => soak::run(hours),
        Command::Deb { check } => deb::run(check),
        Command::Demo { modes } => demo::run(&modes),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
