//! `cargo xtask other-layout`: a second lvsadm, whose maps have another layout, for the tests of `lvsadm upgrade` between unlike
//! layouts. They are ignored without it: it takes longer to build than all tests to run.

use anyhow::Result;

use crate::process::{announce, host_cargo, root, run as run_program};
use crate::setup;

/// Where everything of it is left, under the workspace's root; `tests` looks for `debug/lvsadm` there.
const FOLDER: &str = "target/other-layout";
/// The feature that changes the layout.
const FEATURE: &str = "lvs-common/test-layout";

/// `cargo xtask other-layout`.
pub fn run() -> Result<()> {
    let toolchain = setup::prepare_build()?;
    announce("building the eBPF objects of another layout");
    let mut cargo = toolchain.ebpf_cargo_into("build", FOLDER)?;
    run_program(cargo.args(["--bin", "lvs", "--bin", "l3", "--features", FEATURE]))?;
    announce("building lvsadm of another layout");
    let folder = root().join(FOLDER);
    let mut cargo = host_cargo();
    cargo.args(["build", "--package", "lvsadm", "--features", FEATURE, "--target-dir"]).arg(&folder);
    run_program(cargo.env("LVS_EBPF_DIR", folder.join("bpfel-unknown-none/release")))
}
