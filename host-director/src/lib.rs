//! The data plane compiled for the host: the eBPF object's own files, with the kernel's floor replaced.
//!
//! The modules below are `lvs-ebpf`'s, file by file, as `l3` includes them for its object. Three files of the floor `kernel` are
//! written in BPF's instructions or read what a loader writes; [`kernel`] has others in their place. Everything else of the kernel is
//! `host-kernel`'s, under `aya-ebpf`'s names. So what is tested here is the source that the object is made of, and the object does
//! not know of it.
//!
//! [`director::Director`] is a director in memory: it takes rules, packets and time, and shows what became of them.
#![allow(internal_features, reason = "as in lvs-ebpf: attributes on closures")]
#![feature(stmt_expr_attributes)]
#![allow(
    missing_docs,
    dead_code,
    reason = "the data plane's modules have no public interface, and its entries are not the host's"
)]
#![allow(
    clippy::needless_borrows_for_generic_args,
    clippy::needless_return,
    reason = "lvs-ebpf's files are linted as its own"
)]

// The log's macros stand beside the kernel's helpers.
extern crate aya_ebpf as aya_log_ebpf;

#[path = "../../lvs-ebpf/src/config/mod.rs"]
mod config;
pub mod director;
#[path = "../../lvs-ebpf/src/egress/mod.rs"]
mod egress;
#[path = "../../lvs-ebpf/src/exits.rs"]
mod exits;
#[path = "../../lvs-ebpf/src/forward/mod.rs"]
mod forward;
mod kernel;
#[path = "../../lvs-ebpf/src/link/ethernet.rs"]
mod link;
#[path = "../../lvs-ebpf/src/log.rs"]
mod log;
#[path = "../../lvs-ebpf/src/maps.rs"]
mod maps;
#[path = "../../lvs-ebpf/src/packet/mod.rs"]
mod packet;
#[path = "../../lvs-ebpf/src/programs.rs"]
mod programs;
mod programs_of_host;
#[path = "../../lvs-ebpf/src/rare/mod.rs"]
mod rare;
#[path = "../../lvs-ebpf/src/select/mod.rs"]
mod select;
#[path = "../../lvs-ebpf/src/stats.rs"]
mod stats;
#[path = "../../lvs-ebpf/src/table/mod.rs"]
mod table;
#[path = "../../lvs-ebpf/src/upkeep/mod.rs"]
mod upkeep;
#[path = "../../lvs-ebpf/src/values/mod.rs"]
mod values;
