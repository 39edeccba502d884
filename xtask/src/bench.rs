//! `cargo xtask bench`: builds, then hands over to the benchmark, which like the demo is a program of the `tests` crate.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Result, bail};

use crate::process::{as_root, host_cargo, root, run as run_program, target_dir};
use crate::{build, setup};

/// `cargo xtask bench`.
pub fn run(quick: bool, only: Option<&str>, json: &Path, compare: Option<&Path>, plots: Option<&Path>) -> Result<()> {
    let bench = target_dir().join("release/bench");
    let Some(mut command) = as_root(&bench) else {
        bail!("the benchmark makes network namespaces and loads eBPF programs: run it as root, or install sudo");
    };
    build::build(&setup::prepare()?)?;
    run_program(host_cargo().args(["build", "--release", "--package", "tests", "--bin", "bench"]))?;
    command.args(quick.then_some("--quick"));
    if let Some(part) = only {
        command.args(["--only", part]);
    }
    for (option, path) in [("--compare", compare), ("--plots", plots)] {
        command.args(path.iter().flat_map(|path| [OsString::from(option), root().join(path).into()]));
    }
    command.arg("--json").arg(root().join(json)).env("LVSADM", build::lvsadm());
    // The namespaces that it makes have as much room as a host.
    for (name, most) in [("LVS_CONNS", "262144"), ("LVS_SERVICES", "65535"), ("LVS_DESTINATIONS", "131071")] {
        command.env(name, most);
    }
    run_program(&mut command)
}
