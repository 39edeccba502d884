//! The maps of what arrives in fragments, by the names that the shared code knows.

use aya_ebpf::btf_maps::{Array, LruHashMap, ProgramArray};
use aya_ebpf::macros::btf_map;
use lvs_common::fragments::{self, Held};

use crate::values::fragment::{Cell, Datagram, Key};

/// Packets whose fragments are still coming, by addresses, protocol and identification.
#[btf_map]
pub static DATAGRAMS: LruHashMap<Key, Datagram, { fragments::DATAGRAMS as usize }> = LruHashMap::new();
/// Which fragments wait in `CELLS`.
#[btf_map]
pub static HELD: Array<Held, { fragments::CELLS as usize }> = Array::new();
/// The bytes of fragments that wait for others.
#[btf_map]
pub static CELLS: Array<Cell, { fragments::CELLS as usize }> = Array::new();
/// The next cell of each ring.
#[btf_map]
pub static RINGS: Array<u32, { fragments::RINGS as usize }> = Array::new();
/// Access to packets can jump; no program here does.
#[btf_map]
pub static TC_PROGRAMS: ProgramArray<128> = ProgramArray::new();
