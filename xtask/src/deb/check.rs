//! `cargo xtask deb --check` hands over to a program of the `tests` crate, as it stands on the same namespaces as the tests.

use anyhow::{Result, bail};

use super::package::Packages;
use crate::build;
use crate::process::{announce, as_root, host_cargo, run as run_program, target_dir};

/// Installs the packages in a fresh Debian, and boots it.
pub fn run(packages: &Packages) -> Result<()> {
    let Some(mut command) = as_root(target_dir().join("release/boot")) else {
        bail!("installing and booting a system in namespaces takes root: run it as root, or install sudo");
    };
    run_program(host_cargo().args(["build", "--release", "--package", "tests", "--bin", "boot"]))?;
    announce("trying the packages out");
    let folder = target_dir().join("debian");
    run_program(command.arg(folder).args([&packages.lvsadm, &packages.ipvsadm]).env("LVSADM", build::lvsadm()))
}
