//! What the integration tests, the demo and the benchmark stand on.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use aya::Ebpf;

pub mod fixtures;
pub mod topology;

/// The benchmark's eBPF object, which is built beside those that `lvsadm` embeds; nothing is loaded of it yet but maps.
pub fn bench_object() -> Result<Ebpf> {
    let folder = env::var_os("LVS_EBPF_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bpf/bpfel-unknown-none/release"),
        PathBuf::from,
    );
    let path = folder.join("bench");
    let object = fs::read(&path).with_context(|| format!("{} is missing: run `cargo xtask build`", path.display()))?;
    Ok(Ebpf::load(&object)?)
}
