//! Puts the eBPF objects where the program embeds them from.
//!
//! They are built apart, by `cargo xtask build`, because they need another compiler. Without them the program still
//! builds, around empty objects: the host side can be developed and tested alone, and loading says what is missing.
//!
//! Instructions lose the lines of source that they were made from: aya copies all of them for each function, and the kernel
//! goes through them at each instruction that it replaces, which took a sixth of the time of a load. With `LVS_EBPF_LINES=1`
//! in the environment they stay, and the verifier's log and `bpftool prog dump` show them.

use std::path::{Path, PathBuf};
use std::{env, fs};

use object::build::elf::{Builder, SectionData};
use object::elf::SHT_STRTAB;

/// The objects: the director's programs, those for devices without Ethernet headers, the real server's for tunnels and TOA, and
/// those that observe packets.
const OBJECTS: [&str; 5] = ["lvs", "l3", "real_server", "toa", "observe"];

/// Asks for instructions with their lines of source.
const LINES: &str = "LVS_EBPF_LINES";

fn main() {
    println!("cargo::rerun-if-env-changed=LVS_EBPF_DIR");
    println!("cargo::rerun-if-env-changed={LINES}");
    let lines = env::var_os(LINES).is_some_and(|value| value == "1");
    let built = env::var_os("LVS_EBPF_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bpf/bpfel-unknown-none/release"),
        PathBuf::from,
    );
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for name in OBJECTS {
        let object = built.join(name);
        // A file that does not exist counts as changed, so the objects are found as soon as they are there.
        println!("cargo::rerun-if-changed={}", object.display());
        let bytes = fs::read(&object).map_or_else(|_| Vec::new(), |bytes| stripped(&bytes, lines));
        fs::write(out.join(name), bytes).expect("cannot write to OUT_DIR");
    }
}

/// The object without DWARF, which is most of it, and without relocations of BTF: BTF is made of the one, linkers read the
/// other, and nothing does afterwards.
fn stripped(object: &[u8], lines: bool) -> Vec<u8> {
    let mut builder = Builder::read(object).expect("the eBPF object is no ELF file");
    for section in builder.sections.iter_mut() {
        let name = section.name.as_slice();
        section.delete = [&b".debug_"[..], b".rel.debug_", b".rel.BTF"].iter().any(|start| name.starts_with(start));
        if name == b".BTF.ext" && !lines {
            let SectionData::Data(data) = &section.data else { panic!("section .BTF.ext has no data") };
            section.data = SectionData::Data(without_lines(data).into());
        }
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

/// Section `.BTF.ext` without its table of lines. Its header is, from byte 8 on, the offset and the length of each table: of
/// functions, of lines, of relocations against the kernel's types, in this order, as LLVM lays them.
fn without_lines(section: &[u8]) -> Vec<u8> {
    const LINES: usize = 16;
    const RELOCATIONS: usize = 24;
    let number = |at: usize| u32::from_le_bytes(section[at..at + 4].try_into().expect("four bytes"));
    let header = number(4);
    let (start, length) = (number(LINES), number(LINES + 4));
    assert!(header as usize >= RELOCATIONS + 8, ".BTF.ext has a header of another form");
    assert_eq!(number(RELOCATIONS), start + length, ".BTF.ext has its tables in another order");
    let mut kept = section.to_vec();
    kept.drain((header + start) as usize..(header + start + length) as usize);
    kept[LINES + 4..LINES + 8].fill(0);
    kept[RELOCATIONS..RELOCATIONS + 4].copy_from_slice(&start.to_le_bytes());
    kept
}
