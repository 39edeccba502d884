//! `cargo xtask lint`: formatting, the chapters made from the code, the structure, and clippy with warnings as errors.

use anyhow::Result;

use crate::process::{announce, host_cargo, run as run_program};
use crate::{reference, setup, structure};

/// `cargo xtask lint`.
pub fn run() -> Result<()> {
    let toolchain = setup::prepare_build()?;
    announce("formatting");
    run_program(host_cargo().args(["fmt", "--all", "--check"]))?;
    announce("chapters made from the code");
    reference::check()?;
    announce("circles and floors");
    structure::run()?;
    announce("clippy");
    // Without `--workspace`, the default members: every crate but the eBPF one.
    run_program(host_cargo().args(["clippy", "--all-targets", "--", "-D", "warnings"]))?;
    announce("clippy of the eBPF crate");
    run_program(toolchain.ebpf_cargo("clippy")?.args(["--", "-D", "warnings"]))
}
