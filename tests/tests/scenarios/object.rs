//! What must hold of the eBPF objects so that every kernel from Linux 6.1 on takes them, whichever the tests run on.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;

use aya_obj::generated::{bpf_insn, bpf_map_type};
use aya_obj::{Function, Map, Object};
use lvs_common::programs::{PROGRAMS, generation};
use tests::{object_path, tail_calls};

/// The objects that are loaded on directors and real servers.
const OBJECTS: [&str; 4] = ["lvs", "l3", "real_server", "toa"];

/// Bytes of stack that functions which call each other have together (`MAX_BPF_STACK`).
const STACK: usize = 512;
/// What Linux 6.1 rounds a function's share up to; later kernels round less.
const SHARE: usize = 32;

/// The register of the stack's end.
const FRAME: u8 = 10;

/// Instructions' codes and, of those two, what is in their source register (`linux/bpf.h`, RFC 9669).
const CALL: u8 = 0x85;
const TO_FUNCTION: u8 = 1;
const LOAD_WORD: u8 = 0x18;
const OF_FUNCTION: u8 = 4;
const MOVE: u8 = 0xbf;
const ADD_NUMBER: u8 = 0x07;
/// Classes: loads, stores of numbers and of registers; and the mask for them.
const LOAD: u8 = 0x01;
const STORES: [u8; 2] = [0x02, 0x03];
const CLASS: u8 = 0x07;

/// A function of a linked program: bytes of stack it uses itself, and where the functions begin that it calls or has called.
#[derive(Default)]
struct Share {
    depth: usize,
    calls: BTreeSet<usize>,
}

/// Where a call, or an address of a function, leads.
fn target(at: usize, instruction: &bpf_insn) -> Option<usize> {
    let leads = matches!((instruction.code, instruction.src_reg()), (CALL, TO_FUNCTION) | (LOAD_WORD, OF_FUNCTION));
    leads.then(|| at.checked_add_signed(instruction.imm as isize + 1)).flatten()
}

/// How far from the stack's end an instruction reaches; `before` is the one before it.
fn reach(before: Option<&bpf_insn>, instruction: &bpf_insn) -> usize {
    let class = instruction.code & CLASS;
    if class == LOAD && instruction.src_reg() == FRAME || STORES.contains(&class) && instruction.dst_reg() == FRAME {
        return (-instruction.off).max(0) as usize;
    }
    let is_moved = before.is_some_and(|before| {
        before.code == MOVE && before.src_reg() == FRAME && before.dst_reg() == instruction.dst_reg()
    });
    if instruction.code == ADD_NUMBER && is_moved { (-instruction.imm).max(0) as usize } else { 0 }
}

/// The functions of a linked program by their first instruction.
fn shares(program: &Function) -> BTreeMap<usize, Share> {
    let instructions = &program.instructions;
    let targets = instructions.iter().enumerate().filter_map(|(at, instruction)| target(at, instruction));
    let mut shares: BTreeMap<usize, Share> = targets.chain([0]).map(|at| (at, Share::default())).collect();
    for (at, instruction) in instructions.iter().enumerate() {
        let before = at.checked_sub(1).map(|before| &instructions[before]);
        let (_, share) = shares.range_mut(..=at).next_back().unwrap();
        share.depth = share.depth.max(reach(before, instruction));
        share.calls.extend(target(at, instruction));
    }
    shares
}

/// Bytes of stack of the deepest chain of calls from a function.
fn deepest(shares: &BTreeMap<usize, Share>, from: usize) -> usize {
    let share = &shares[&from];
    let below = share.calls.iter().map(|call| deepest(shares, *call)).max().unwrap_or(0);
    share.depth.max(1).next_multiple_of(SHARE) + below
}

fn object(name: &str) -> Object {
    Object::parse(&fs::read(object_path(name)).unwrap()).unwrap()
}

#[test]
fn calls_fit_the_stack() {
    for name in OBJECTS {
        let mut object = object(name);
        let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        object.relocate_calls(&text).unwrap();
        let mut too_deep = Vec::new();
        for (program, entry) in &object.programs {
            let depth = deepest(&shares(&object.functions[&entry.function_key()]), 0);
            if depth > STACK {
                too_deep.push((program, depth));
            }
            // Whether it is found at all: every program of some size has something there.
            assert!(depth > SHARE || object.functions[&entry.function_key()].instructions.len() < 400, "{program}");
        }
        assert!(too_deep.is_empty(), "{name}: with what they call, these use so many bytes of stack: {too_deep:?}");
    }
}

/// Constants that the linker merges are read from wrong places: aya relocates their section as one that is not merged.
#[test]
fn no_constants_are_merged() {
    for name in OBJECTS {
        let object = object(name);
        let merged: Vec<_> = object.maps.keys().filter(|map| map.starts_with(".rodata.")).collect();
        assert!(merged.is_empty(), "{name}: {merged:?}");
    }
}

/// Each program of the table jumps to the programs that its row names, and to no others. Any program may jump to `Log`.
#[test]
fn programs_jump_where_their_table_says() {
    let mut object = object("lvs");
    let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    object.relocate_calls(&text).unwrap();
    let (mut jumps, mut named) = (BTreeMap::new(), BTreeMap::new());
    for row in PROGRAMS {
        let mut found = BTreeSet::new();
        for name in row.xdp.iter().chain(row.tc) {
            let entry = &object.programs[*name];
            for slot in tail_calls::slots(&object.functions[&entry.function_key()].instructions) {
                match slot {
                    // Another generation of the data plane.
                    Some(slot) if slot as u32 >= generation::PREVIOUS => {}
                    Some(slot) => drop(found.insert(PROGRAMS[slot as usize / 2].name)),
                    // The program of the log goes on where the one before it would have.
                    None => assert_eq!(row.name, "Log", "{name} jumps to a slot that is not a constant"),
                }
            }
        }
        found.remove("Log");
        jumps.insert(row.name, found);
        named.insert(row.name, row.to.iter().copied().collect());
    }
    assert_eq!(jumps, named);
}

/// `bpftool map dump` prints the fields of elements by their names, for every kind of map that the kernel takes types for.
#[test]
fn maps_say_what_they_hold() {
    let kinds =
        [bpf_map_type::BPF_MAP_TYPE_ARRAY, bpf_map_type::BPF_MAP_TYPE_HASH, bpf_map_type::BPF_MAP_TYPE_LPM_TRIE];
    let kinds = kinds.map(|kind| kind as u32);
    for (name, map) in &object("lvs").maps {
        if kinds.contains(&map.map_type()) && !name.starts_with('.') {
            let Map::Btf(map) = map else { panic!("{name} has no types") };
            assert!(map.def.btf_key_type_id != 0 && map.def.btf_value_type_id != 0, "{name} has no types");
        }
    }
}
