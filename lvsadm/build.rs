//! Puts the eBPF objects where the program embeds them from.
//!
//! They are built apart, by `cargo xtask build`, because they need another compiler. Without them the program still
//! builds, around empty objects: the host side can be developed and tested alone, and loading says what is missing.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// The objects: the director's programs, and the real server's.
const OBJECTS: [&str; 2] = ["lvs", "real_server"];

fn main() {
    println!("cargo::rerun-if-env-changed=LVS_EBPF_DIR");
    let built = env::var_os("LVS_EBPF_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bpf/bpfel-unknown-none/release"),
        PathBuf::from,
    );
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for name in OBJECTS {
        let object = built.join(name);
        // A file that does not exist counts as changed, so the objects are found as soon as they are there.
        println!("cargo::rerun-if-changed={}", object.display());
        let bytes = fs::read(&object).unwrap_or_default();
        fs::write(out.join(name), bytes).expect("cannot write to OUT_DIR");
    }
}
