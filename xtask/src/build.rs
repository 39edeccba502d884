//! `cargo xtask build`: the eBPF objects, then the program and the preload library that embed them.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::process::{announce, as_root, host_cargo, run as run_program, target_dir};
use crate::setup;
use crate::toolchain::Toolchain;

/// Where the release binary is left.
pub fn lvsadm() -> PathBuf {
    target_dir().join("release/lvsadm")
}

/// Where the preload library is left.
pub fn lvs_compat() -> PathBuf {
    target_dir().join("release/liblvs_compat.so")
}

/// `cargo xtask build`.
pub fn run(verbose: bool) -> Result<()> {
    build(&setup::prepare_build()?)?;
    if verbose {
        announce("verifying");
        let program = lvsadm();
        let mut status = as_root(&program).unwrap_or_else(|| Command::new(&program));
        run_program(status.args(["status", "--verifier"]))?;
    }
    Ok(())
}

/// Builds with a toolchain that setup found.
pub fn build(toolchain: &Toolchain) -> Result<()> {
    announce("building the eBPF objects");
    run_program(&mut toolchain.ebpf_cargo("build")?)?;
    announce("building lvsadm and lvs-compat");
    run_program(host_cargo().args(["build", "--release", "--package", "lvsadm", "--package", "lvs-compat"]))
}
