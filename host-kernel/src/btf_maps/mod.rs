//! The kinds of map, with the interface of `aya_ebpf::btf_maps` and what user space does with them.

pub mod array;
pub mod array_of_maps;
pub mod hash_map;
mod key;
pub mod lpm_trie;
pub mod program_array;
pub mod queue;
pub mod ring_buf;

pub use array::{Array, PerCpuArray};
pub use array_of_maps::ArrayOfMaps;
pub use hash_map::{HashMap, LruHashMap};
pub use lpm_trie::LpmTrie;
pub use program_array::ProgramArray;
pub use queue::Queue;
pub use ring_buf::RingBuf;
