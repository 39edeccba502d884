//! Checks for what the other commands need and installs what is missing.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};

use crate::process::{announce, as_root, find, host_cargo, output, run as run_program};
use crate::toolchain::{PINNED_NIGHTLY, Toolchain, path_with};

/// Programs that tests and demo run, and the Debian package of each.
const TOOLS: [(&str, &str); 21] = [
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("ethtool", "ethtool"),
    ("nft", "nftables"),
    ("curl", "curl"),
    ("wget", "wget"),
    ("iperf3", "iperf3"),
    ("tcpdump", "tcpdump"),
    ("tshark", "tshark"),
    ("socat", "socat"),
    ("wrk", "wrk"),
    ("ping", "iputils-ping"),
    ("ipvsadm", "ipvsadm"),
    ("keepalived", "keepalived"),
    ("ldirectord", "ldirectord"),
    ("fail2ban-server", "fail2ban"),
    ("systemd-analyze", "systemd"),
    ("nginx", "nginx"),
    ("bird", "bird2"),
    ("prometheus", "prometheus"),
    ("chromium", "chromium"),
];

/// Programs that packing runs.
const PACKAGING_TOOLS: [(&str, &str); 3] =
    [("dpkg-deb", "dpkg"), ("dpkg-shlibdeps", "dpkg-dev"), ("dpkg-architecture", "dpkg-dev")];

/// Programs that trying the packages out runs besides.
const CHECKING_TOOLS: [(&str, &str); 2] = [("debootstrap", "debootstrap"), ("unshare", "util-linux")];

/// Packages that make up Debian's compiler with its library's source, clippy and rustfmt.
const DEBIAN_COMPILER: [&str; 5] = ["rustc-web", "cargo-web", "rust-web-src", "rust-web-clippy", "rustfmt-web"];

/// What building and linting need: compilers and linker.
pub fn prepare_build() -> Result<Toolchain> {
    host_components()?;
    let toolchain = ebpf_toolchain()?;
    linker(&toolchain)?;
    Ok(toolchain)
}

/// Everything: also the tools of tests and demo.
pub fn prepare() -> Result<Toolchain> {
    let toolchain = prepare_build()?;
    tools(&TOOLS)?;
    packaging_tools(false)?;
    Ok(toolchain)
}

/// What makes packages and, if they are to be checked, tries them out.
pub fn packaging_tools(check: bool) -> Result<()> {
    tools(&PACKAGING_TOOLS)?;
    if check { tools(&CHECKING_TOOLS) } else { Ok(()) }
}

/// `cargo xtask setup`.
pub fn run() -> Result<()> {
    let toolchain = prepare()?;
    announce(&match toolchain {
        Toolchain::Rustup(name) => format!("everything is here; eBPF is built by rustup's {name}"),
        Toolchain::Debian => "everything is here; eBPF is built by Debian's rustc".to_owned(),
    });
    Ok(())
}

/// rustfmt and clippy of the toolchain that runs this; a minimal rustup profile has neither.
fn host_components() -> Result<()> {
    for (program, component) in [("cargo-fmt", "rustfmt"), ("cargo-clippy", "clippy")] {
        if find(program).is_none() || output(host_cargo().args([&program[6..], "--version"])).is_none() {
            announce(&format!("installing {component}"));
            run_program(Command::new("rustup").args(["component", "add", component]))?;
        }
    }
    Ok(())
}

/// The compiler of the eBPF crate: what is there, else Debian's, else a nightly of rustup's.
fn ebpf_toolchain() -> Result<Toolchain> {
    if let Some(toolchain) = Toolchain::find() {
        return Ok(toolchain);
    }
    if apt_offers(DEBIAN_COMPILER[0]) {
        announce("installing Debian's Rust compiler for eBPF (about 150 MB)");
        apt_install(&DEBIAN_COMPILER)?;
    } else {
        announce(&format!("installing rustup's {PINNED_NIGHTLY} with rust-src for eBPF"));
        let install = ["toolchain", "install", PINNED_NIGHTLY, "--profile", "minimal"];
        let components = ["--component", "rust-src", "--component", "clippy"];
        run_program(Command::new("rustup").args(install).args(components))?;
    }
    Toolchain::find().context("the compiler that was installed for eBPF has no source of the standard library")
}

/// `bpf-linker`, built against the LLVM that the compiler's bitcode is from.
fn linker(toolchain: &Toolchain) -> Result<()> {
    if find("bpf-linker").is_some() {
        return Ok(());
    }
    let llvm = toolchain.llvm().context("the eBPF compiler does not say which LLVM it has")?;
    if matches!(toolchain, Toolchain::Rustup(_)) && llvm <= 22 {
        announce("building bpf-linker against rustup's own LLVM (a few minutes)");
        return run_program(toolchain.cargo().args(["install", "bpf-linker", "--version", "0.10.3", "--locked"]));
    }
    let (llvm_dev, polly) = (format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev"));
    announce(&format!("installing LLVM {llvm} for bpf-linker (about 500 MB)"));
    apt_install(&[&llvm_dev, &polly, "zlib1g-dev", "libzstd-dev", "g++"])?;
    announce("building bpf-linker (about 2 minutes)");
    run_program(
        host_cargo()
            .args(["install", "bpf-linker", "--version", "0.13.0", "--locked", "--no-default-features"])
            .args(["--features", &format!("llvm-{llvm}")])
            .env("PATH", path_with(&format!("/usr/lib/llvm-{llvm}/bin"))),
    )
}

/// Installs those of `wanted` that are missing.
pub fn tools(wanted: &[(&str, &'static str)]) -> Result<()> {
    let mut missing: Vec<&str> = wanted.iter().filter(|(tool, _)| find(tool).is_none()).map(|(_, p)| *p).collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    announce(&format!("installing {}", missing.join(" ")));
    apt_install(&missing)
}

/// Whether apt can install `package`.
fn apt_offers(package: &str) -> bool {
    // Failing here only means that the package is not to be had.
    let policy = || output(Command::new("apt-cache").args(["policy", package]));
    let Some(policy) = apt_update().ok().and_then(|()| policy()) else { return false };
    policy.lines().any(|line| line.trim().strip_prefix("Candidate: ").is_some_and(|version| version != "(none)"))
}

fn apt_install(packages: &[&str]) -> Result<()> {
    apt_update()?;
    let install = ["install", "--yes", "--quiet", "--no-install-recommends"];
    apt(&install.iter().chain(packages).copied().collect::<Vec<_>>())
}

/// Fetches apt's lists, once: old ones offer versions that are too old, or that are gone from the archive.
pub fn apt_update() -> Result<()> {
    static DONE: AtomicBool = AtomicBool::new(false);
    if !DONE.load(Ordering::Relaxed) {
        announce("fetching apt's lists");
        apt(&["update", "--quiet"])?;
        DONE.store(true, Ordering::Relaxed);
    }
    Ok(())
}

fn apt(arguments: &[&str]) -> Result<()> {
    if find("apt-get").is_none() {
        bail!("this machine has no apt; install by hand what `apt-get {}` would", arguments.join(" "));
    }
    let Some(mut apt) = as_root("apt-get") else {
        bail!("installing needs root or sudo: run `apt-get {}` as root, then this again", arguments.join(" "));
    };
    // Tests start daemons themselves: offline, systemd's tools leave those of the packages alone.
    run_program(apt.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").env("SYSTEMD_OFFLINE", "1"))
}
