//! `cargo xtask audit`: what the dependencies are, by the rules in `deny.toml`.

use anyhow::Result;

use crate::process::{announce, find, host_cargo, output, run as run_program};

/// The version of cargo-deny that is installed if there is none.
const VERSION: &str = "0.20.2";

/// `cargo xtask audit`.
pub fn run() -> Result<()> {
    if find("cargo-deny").is_none() {
        announce("building cargo-deny (a few minutes)");
        run_program(host_cargo().args(["install", "cargo-deny", "--version", VERSION, "--locked"]))?;
    }
    announce("licences, sources and versions of dependencies");
    run_program(host_cargo().args(["deny", "check", "licenses", "bans", "sources"]))?;
    if output(host_cargo().args(["deny", "fetch", "db"])).is_none() {
        announce(
            "advisories were NOT checked: their database, https://github.com/RustSec/advisory-db, cannot be fetched",
        );
        return Ok(());
    }
    announce("advisories");
    run_program(host_cargo().args(["deny", "check", "advisories"]))
}
