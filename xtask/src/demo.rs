//! `cargo xtask demo`: builds, then hands over to the demo itself, which is a program of the `tests` crate because it
//! stands on the same namespaces as the tests.

use anyhow::{Result, bail};

use crate::process::{as_root, host_cargo, run as run_program, target_dir};
use crate::{build, setup};

/// `cargo xtask demo`.
pub fn run(modes: &[String]) -> Result<()> {
    let demo = target_dir().join("release/demo");
    let Some(mut command) = as_root(&demo) else {
        bail!("the demo makes network namespaces and loads eBPF programs: run it as root, or install sudo");
    };
    build::build(&setup::prepare()?)?;
    run_program(host_cargo().args(["build", "--release", "--package", "tests", "--bin", "demo"]))?;
    run_program(command.args(modes).env("LVSADM", build::lvsadm()))
}
