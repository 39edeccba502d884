//! The virtual addresses whose packets come in tunnels.

use aya_ebpf::btf_maps::HashMap;
use aya_ebpf::macros::btf_map;

/// The virtual addresses, by family and by [`lvs_common::abi::Address`]: the most bytes that a tunnel has put before a packet for
/// this one, 0 before one came.
#[btf_map]
pub static VIPS: HashMap<[u32; 5], u32, 4096> = HashMap::new();
