//! The compiler of the eBPF crate, which needs `-Z build-std` and so the standard library's source: rustup's nightly
//! with `rust-src`, or Debian's `rustc-web` with `rust-web-src`.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::process::{cargo_bin, find, output, root};

/// The nightly that is installed where neither rustup nor the distribution has a usable compiler; `bpf-linker` 0.10 is
/// built against the LLVM inside it.
pub const PINNED_NIGHTLY: &str = "nightly-2026-05-20";

/// The oldest release of Debian's rustc that builds the eBPF crate.
const OLDEST_DEBIAN: (u32, u32) = (1, 88);

/// A compiler that can build the eBPF crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// A toolchain of rustup's, by name.
    Rustup(&'static str),
    /// `/usr/bin/cargo` and `/usr/bin/rustc`, whose unstable features `RUSTC_BOOTSTRAP` opens.
    Debian,
}

impl Toolchain {
    /// The toolchain to use on this machine, if it has one.
    pub fn find() -> Option<Self> {
        ["nightly", PINNED_NIGHTLY]
            .into_iter()
            .map(Toolchain::Rustup)
            .chain([Toolchain::Debian])
            .find(|toolchain| toolchain.is_usable())
    }

    fn is_usable(&self) -> bool {
        let new_enough = match self {
            Toolchain::Rustup(_) => true,
            Toolchain::Debian => {
                Path::new("/usr/bin/cargo").is_file() && self.release().is_some_and(|release| release >= OLDEST_DEBIAN)
            }
        };
        new_enough
            && self.sysroot().is_some_and(|root| {
                Path::new(root.trim()).join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file()
            })
    }

    fn sysroot(&self) -> Option<String> {
        output(self.rustc().args(["--print", "sysroot"]))
    }

    fn release(&self) -> Option<(u32, u32)> {
        let mut numbers = self.version_field("release")?.split('.').map(str::to_owned).collect::<Vec<_>>().into_iter();
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }

    /// The major version of the LLVM in it, which `bpf-linker`'s must not be older than.
    pub fn llvm(&self) -> Option<u32> {
        self.version_field("LLVM version")?.split('.').next()?.parse().ok()
    }

    fn version_field(&self, field: &str) -> Option<String> {
        let text = output(self.rustc().arg("-vV"))?;
        text.lines().find_map(|line| Some(line.strip_prefix(field)?.strip_prefix(": ")?.to_owned()))
    }

    fn rustc(&self) -> Command {
        self.program("rustc")
    }

    /// This toolchain's cargo.
    pub fn cargo(&self) -> Command {
        self.program("cargo")
    }

    /// A program of the toolchain, free of what the cargo around this process set up for another toolchain.
    fn program(&self, name: &str) -> Command {
        let mut command = match self {
            Toolchain::Rustup(toolchain) => {
                let mut command = Command::new("rustup");
                // Without it, rustup would fetch a toolchain that is only asked about.
                command.args(["run", toolchain, name]).env("RUSTUP_AUTO_INSTALL", "0");
                command
            }
            Toolchain::Debian => {
                let mut command = Command::new(Path::new("/usr/bin").join(name));
                command
                    .env("PATH", path_with("/usr/bin"))
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env("RUSTC", "/usr/bin/rustc")
                    .env("RUSTDOC", "/usr/bin/rustdoc");
                command
            }
        };
        let ours = ["CARGO_HOME", "CARGO_TARGET_DIR"];
        for (variable, _) in env::vars_os() {
            let text = variable.to_string_lossy();
            if text.starts_with("CARGO") && !ours.contains(&&*text) || text.starts_with("RUSTFLAGS") {
                command.env_remove(&variable);
            }
        }
        for variable in ["RUSTUP_TOOLCHAIN", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "LD_LIBRARY_PATH"] {
            command.env_remove(variable);
        }
        if matches!(self, Toolchain::Rustup(_)) {
            command.env_remove("RUSTC").env_remove("RUSTDOC");
        }
        command
    }

    /// `cargo SUBCOMMAND` for the eBPF crate, with everything its target needs.
    pub fn ebpf_cargo(&self, subcommand: &str) -> Result<Command> {
        // Its own folder: another compiler's artefacts would otherwise replace the host's and be replaced in turn.
        self.ebpf_cargo_into(subcommand, "target/bpf")
    }

    /// The same, with a folder for what it makes.
    pub fn ebpf_cargo_into(&self, subcommand: &str, folder: &str) -> Result<Command> {
        let linker = find("bpf-linker");
        ensure!(linker.is_some(), "bpf-linker is missing: run `cargo xtask setup`");
        let linker = linker.unwrap_or_default();
        // A file name with a space would break RUSTFLAGS; the encoded form separates by 0x1f.
        let flags = [
            "-C".into(),
            format!("linker={}", linker.display()),
            "-C".into(),
            "link-arg=--btf".into(),
            "-C".into(),
            // A loop that is unrolled is as many paths for the verifier, and stack that the programs do not have.
            "link-arg=--llvm-args=-unroll-full-max-count=2".into(),
            "-C".into(),
            "target-cpu=v3".into(),
            "-C".into(),
            "debuginfo=2".into(),
        ];
        let mut command = self.cargo();
        command
            .current_dir(root())
            .args([subcommand, "--release", "--package", "lvs-ebpf", "--target", "bpfel-unknown-none"])
            .args(["-Z", "build-std=core"])
            .arg("--target-dir")
            .arg(root().join(folder))
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            // Link-time optimisation is bpf-linker's.
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_STRIP", "none");
        Ok(command)
    }
}

/// `PATH` with `first` before, and cargo's own programs after everything.
pub fn path_with(first: &str) -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(first.into()).chain(env::split_paths(&path)).chain([cargo_bin()]);
    env::join_paths(folders).unwrap_or(path)
}
