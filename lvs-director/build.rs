//! Puts the eBPF objects where the program embeds them from.
//!
//! They are built apart, by `cargo xtask build`, because they need another compiler. Without them the program still
//! builds, around empty objects: the host side can be developed and tested alone, and loading says what is missing.

use std::path::{Path, PathBuf};
use std::{env, fs};

use object::build::elf::{Builder, SectionData};
use object::elf::SHT_STRTAB;

/// The objects: the director's programs, those for devices without Ethernet headers, and the real server's for tunnels and TOA.
const OBJECTS: [&str; 4] = ["lvs", "l3", "real_server", "toa"];

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
        let bytes = fs::read(&object).map_or_else(|_| Vec::new(), |bytes| without_debug_sections(&bytes));
        fs::write(out.join(name), bytes).expect("cannot write to OUT_DIR");
    }
}

/// The object without DWARF, which is most of it: BTF is made of it, and nothing reads it afterwards.
fn without_debug_sections(object: &[u8]) -> Vec<u8> {
    let mut builder = Builder::read(object).expect("the eBPF object is no ELF file");
    for section in builder.sections.iter_mut() {
        let name = section.name.as_slice();
        section.delete = name.starts_with(b".debug_") || name.starts_with(b".rel.debug_");
    }
    builder.delete_orphans();
    // LLVM keeps section names with the symbols'; the builder wants them in a section of their own.
    let names = builder.sections.add();
    names.name = b".shstrtab"[..].into();
    names.sh_type = SHT_STRTAB;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    builder.write(&mut stripped).expect("cannot write the eBPF object");
    stripped
}
