//! What the integration tests, the demo and the benchmark stand on.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use aya::Ebpf;

pub mod balanced;
pub mod fixtures;
pub mod generations;
pub mod killed;
pub mod replay;
pub mod stack;
pub mod tail_calls;
pub mod topology;
pub mod verifier;

/// Waits for something that another program brings about in its own time; panics if it never does.
pub fn eventually(what: &str, condition: impl Fn() -> bool) {
    const PATIENCE: Duration = Duration::from_secs(60);
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// Reads from a socket. A read with a time limit is not begun anew by the kernel when something interrupts the thread.
pub fn uninterrupted<T>(mut read: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Letters of which no piece is like another, so that a transfer shows what it lost, swapped or repeated.
pub fn text(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(1);
    (0..length).map(|_| random.lowercase() as u8).collect()
}

/// Says that the test which calls this cannot run here, and why. `cargo xtask test` counts the test as ignored; libtest cannot be told once
/// a test runs, and keeps what tests print that pass, but not what they write.
pub fn cannot_run(reason: &str) {
    let thread = thread::current();
    let _ = writeln!(io::stdout(), "test {} cannot run here: {reason}", thread.name().unwrap_or_default());
}

/// Whether this kernel has IPVS, or would load it: then the tools speak netlink with it, and the library is not asked.
pub fn kernel_has_ipvs() -> bool {
    let loads = Command::new("modprobe").args(["--dry-run", "--quiet", "ip_vs"]).status();
    Path::new("/proc/net/ip_vs").exists() || loads.is_ok_and(|status| status.success())
}

/// Whether a test of what is done without the kernel's IPVS can run here; says so if not.
pub fn is_without_ipvs() -> bool {
    let has = kernel_has_ipvs();
    if has {
        cannot_run("this kernel has IPVS, which lvs-compat leaves alone");
    }
    !has
}

/// Where an eBPF object is that `cargo xtask build` made.
pub fn object_path(name: &str) -> PathBuf {
    let folder = env::var_os("LVS_EBPF_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bpf/bpfel-unknown-none/release"),
        PathBuf::from,
    );
    folder.join(name)
}

/// The benchmark's eBPF object, which is built beside those that `lvsadm` embeds; nothing is loaded of it yet but maps.
pub fn bench_object() -> Result<Ebpf> {
    let path = object_path("bench");
    let object = fs::read(&path).with_context(|| format!("{} is missing: run `cargo xtask build`", path.display()))?;
    Ok(Ebpf::load(&object)?)
}
