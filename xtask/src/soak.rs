//! `cargo xtask soak`: builds, then hands over to the soak itself, which is a program of the `tests` crate because it stands on the
//! same namespaces as the tests.

use anyhow::{Result, bail};

use crate::process::{as_root, host_cargo, run as run_program, target_dir};
use crate::{build, setup};

/// `cargo xtask soak`, for so many hours.
pub fn run(hours: f64) -> Result<()> {
    const MOST: f64 = 1000.0;
    if !(0.0..=MOST).contains(&hours) {
        bail!("a soak of {hours} hours: give a number of them, up to {MOST}");
    }
    let soak = target_dir().join("debug/soak");
    let Some(mut command) = as_root(&soak) else {
        bail!("the soak makes network namespaces and loads eBPF programs: run it as root, or install sudo");
    };
    build::build(&setup::prepare()?)?;
    run_program(host_cargo().args(["build", "--package", "tests", "--bin", "soak"]))?;
    let seconds = (hours * 3600.0) as u64;
    run_program(command.arg(seconds.to_string()).env("LVSADM", build::lvsadm()))
}
