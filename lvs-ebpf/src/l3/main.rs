//! The director's TC programs for devices without Ethernet headers: tun, WireGuard, ppp, IP tunnels.
//!
//! They are the director's own files, compiled with another link layer, and share its maps. So programs of Ethernet devices know
//! where a network header begins without looking. XDP does not run on such devices.
#![no_std]
#![no_main]
#![allow(internal_features, reason = "core has no atomics for bpf but the intrinsics")]
#![allow(clippy::needless_borrows_for_generic_args, reason = "what is lent to a map is not copied to the stack first")]
#![feature(asm_experimental_arch, core_intrinsics, stmt_expr_attributes)]
#![allow(missing_docs, reason = "a program has no public interface; items are documented where they need it")]
#![allow(dead_code, reason = "XDP and the timer are the other object's")]

#[path = "../config/mod.rs"]
mod config;
#[path = "../egress/mod.rs"]
mod egress;
mod entry;
#[path = "../exits.rs"]
mod exits;
#[path = "../forward/mod.rs"]
mod forward;
#[path = "../kernel/mod.rs"]
mod kernel;
#[path = "../link/none.rs"]
mod link;
#[path = "../log.rs"]
mod log;
#[path = "../maps.rs"]
mod maps;
#[path = "../packet/mod.rs"]
mod packet;
#[path = "../programs.rs"]
mod programs;
#[path = "../rare/mod.rs"]
mod rare;
#[path = "../select/mod.rs"]
mod select;
#[path = "../stats.rs"]
mod stats;
#[path = "../table/mod.rs"]
mod table;
#[path = "../values/mod.rs"]
mod values;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
