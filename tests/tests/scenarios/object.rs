//! What must hold of the eBPF objects so that every kernel from Linux 6.1 on takes them, whichever the tests run on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use aya_obj::generated::bpf_map_type;
use aya_obj::{Map, Object};
use lvs_common::programs::{PROGRAMS, row_at};
use tests::stack::{self, SHARE, STACK};
use tests::{object_path, tail_calls};

/// The objects that are loaded on directors and real servers.
const OBJECTS: [&str; 4] = ["lvs", "l3", "real_server", "toa"];

fn object(name: &str) -> Object {
    Object::parse(&fs::read(object_path(name)).unwrap()).unwrap()
}

#[test]
fn calls_fit_the_stack() {
    for name in OBJECTS {
        let object = stack::linked(name).unwrap();
        let mut too_deep = Vec::new();
        for (program, entry) in &object.programs {
            let depth = stack::depth(&object.functions[&entry.function_key()]);
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
    let object = stack::linked("lvs").unwrap();
    let (mut jumps, mut named) = (BTreeMap::new(), BTreeMap::new());
    for row in PROGRAMS {
        let mut found = BTreeSet::new();
        for name in row.xdp.iter().chain(row.tc) {
            let entry = &object.programs[*name];
            for slot in tail_calls::slots(&object.functions[&entry.function_key()].instructions) {
                match slot {
                    // No row is another generation of the data plane.
                    Some(slot) => found.extend(row_at(slot as u32).map(|row| row.name)),
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
