//! `cargo xtask sanitize`: tests under AddressSanitizer, and under Miri where there is one.
//!
//! AddressSanitizer's runtime comes with the standard library; `RUSTC_BOOTSTRAP` opens the compiler's flag for it, so no nightly is
//! needed. It sees what the code really does: mapped memory, C's types of the preload library. `host-director` is not among its crates: a tail
//! call throws a program's stack away with the frames on it, and what the sanitizer knows of them stays, so the next program's frames look
//! wrong. Miri interprets, which no mapping and no C library survives, so it gets `lvs-common`, whose table is made of raw pointers.

use std::process::Command;

use anyhow::Result;

use crate::process::{announce, host_cargo, output, root, run as run_program, target_dir};

/// Crates with `unsafe` code, whose tests need no root.
const CRATES: [&str; 3] = ["lvs-common", "lvs-director", "lvs-compat"];
/// Cases of each property under Miri, which takes a thousand times as long.
const CASES: &str = "4";
/// The toolchain that has Miri.
const NIGHTLY: &str = "nightly";

/// `cargo xtask sanitize`.
pub fn run() -> Result<()> {
    announce("AddressSanitizer");
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    run_program(
        host_cargo()
            .args(["test", "--quiet", "--lib", "--tests", "--target", &triple])
            .args(CRATES.iter().flat_map(|name| ["--package", name]))
            .arg("--target-dir")
            .arg(target_dir().join("sanitized"))
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", "-Zsanitizer=address")
            // The director's caches live as long as their thread.
            .env("ASAN_OPTIONS", "detect_leaks=0"),
    )?;
    if output(miri().arg("--version")).is_none() {
        announce("Miri was NOT run: `rustup component add miri rust-src --toolchain nightly`");
        return Ok(());
    }
    announce("Miri");
    run_program(
        miri()
            .args(["test", "--package", "lvs-common", "--lib", "--target-dir"])
            .arg(target_dir().join("miri"))
            .env("MIRIFLAGS", "-Zmiri-disable-isolation")
            .env("PROPTEST_CASES", CASES),
    )
}

/// Miri's cargo, without what the cargo around this process says of another toolchain.
fn miri() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", NIGHTLY, "cargo", "miri"]).current_dir(root()).env("RUSTUP_AUTO_INSTALL", "0");
    for variable in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN", "RUSTC_BOOTSTRAP"] {
        command.env_remove(variable);
    }
    command
}
