//! `cargo xtask check`: what an editor runs when a file is saved. Every crate is checked by its own compiler, and the results are
//! cargo's JSON messages on standard output.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::host_cargo;
use crate::toolchain::Toolchain;

/// `cargo xtask check`. Nothing is installed: without a compiler for the eBPF crate, the other crates are checked.
pub fn run() -> Result<()> {
    let mut host = host_cargo();
    let mut checks = vec![succeeds(host.args(["check", "--all-targets", "--keep-going"]))?];
    if let Some(Ok(mut cargo)) = Toolchain::find().map(|toolchain| toolchain.ebpf_cargo("check")) {
        checks.push(succeeds(&mut cargo)?);
    }
    if checks.contains(&false) {
        bail!("there are errors");
    }
    Ok(())
}

/// Whether the check finds no error.
fn succeeds(cargo: &mut Command) -> Result<bool> {
    let cargo = cargo.args(["--quiet", "--message-format", "json-diagnostic-rendered-ansi"]);
    Ok(cargo.status().context("cannot run cargo")?.success())
}
