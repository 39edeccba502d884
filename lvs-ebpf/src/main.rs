//! The LVS data plane: the director's eBPF object.
//!
//! Each folder is a floor, and imports only the floors that this list names before it (`docs/develop/layers.md`):
//!
//! | Floor | Holds |
//! |---|---|
//! | `link` | where a network header begins: the object for devices without Ethernet headers (`l3/main.rs`) has another |
//! | `kernel` | what the kernel gives a program: atomics, loops, global functions, the clock, parameters set at load time |
//! | `values` | plain values that are kept in maps |
//! | `maps` | every map |
//! | `config` | what `lvsadm` configures: settings, services, destinations, devices, the watch filter |
//! | `packet` | access to a packet in XDP and TC, its control block, parsing, checksums |
//! | `stats`, `log`, `exits`, `programs` | counters, the log, the end of a packet's journey, tail calls |
//! | `table` | the connection table: find, draft, insert, advance, release, aliases, local ports |
//! | `egress` | the way out: route, gate, send; requests to split or refuse |
//! | `select` | packets without a live connection: service, template, scheduler, challenge |
//! | `forward` | packets of live connections: NAT, DR, tunnels, FullNAT, families; the drivers of XDP and TC |
//! | `rare` | ICMP, rejects, fragments, resets |
//! | `upkeep` | the timer: expiry, defence, estimates; draining |
//! | `entry` | the object's functions |
#![no_std]
#![no_main]
#![allow(internal_features, reason = "core has no atomics for bpf but the intrinsics")]
#![allow(clippy::needless_borrows_for_generic_args, reason = "what is lent to a map is not copied to the stack first")]
#![feature(asm_experimental_arch, core_intrinsics, stmt_expr_attributes)]
#![allow(missing_docs, reason = "a program has no public interface; items are documented where they need it")]

mod config;
mod egress;
mod entry;
mod exits;
mod forward;
mod kernel;
#[path = "link/ethernet.rs"]
mod link;
mod log;
mod maps;
mod packet;
mod programs;
mod rare;
mod select;
mod stats;
mod table;
mod upkeep;
mod values;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
