//! `cargo xtask deb`.

use std::process::Command;

use anyhow::Result;

use super::{check, package};
use crate::process::{announce, run as run_program};
use crate::{build, setup};

/// Builds, packs, lists what is in the packages, and checks them if asked to.
pub fn run(check: bool) -> Result<()> {
    let toolchain = setup::prepare_build()?;
    setup::packaging_tools(check)?;
    build::build(&toolchain)?;
    let packages = package::package()?;
    for package in [&packages.lvsadm, &packages.ipvsadm] {
        announce(&package.display().to_string());
        run_program(Command::new("dpkg-deb").arg("--contents").arg(package))?;
    }
    if check { check::run(&packages) } else { Ok(()) }
}
