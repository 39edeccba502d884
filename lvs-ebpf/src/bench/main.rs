//! The benchmark's programs: a wrapper that measures another XDP program, the floors that results are compared with, a
//! generator and a sink of packets. And one that tests the data plane's atomics, and one that sets firewall marks for tests.
//! None is part of the data plane.
#![no_std]
#![no_main]
#![allow(internal_features, reason = "core has no atomics for bpf but the intrinsics")]
#![feature(core_intrinsics)]
#![allow(missing_docs, reason = "a program has no public interface; items are documented where they need it")]

#[path = "../kernel/atomics.rs"]
mod atomics;
mod floor;
mod frame;

use aya_ebpf::{
    EbpfContext as _,
    bindings::{TC_ACT_UNSPEC, xdp_action},
    btf_maps::{Array, PerCpuArray, ProgramArray},
    helpers::generated::{bpf_ktime_get_ns, bpf_tail_call},
    macros::{btf_map, classifier, xdp},
    programs::{TcContext, XdpContext},
};
use lvs_common::abi::bench::{CHUNK, CHUNKS, Run};

#[btf_map]
pub static RUN: Array<Run, 1> = Array::new();
/// The measured program.
#[btf_map]
pub static TARGET: ProgramArray<1> = ProgramArray::new();
/// What the sink counted.
#[btf_map]
pub static ARRIVED: PerCpuArray<u64, 1> = PerCpuArray::new();
/// What the atomics returned and left.
#[btf_map]
pub static ATOMICS: Array<[u64; 8], 1> = Array::new();

/// The run at hand, of which a program takes one reference.
#[inline(always)]
fn run<'a>() -> Option<&'a mut Run> {
    // SAFETY: an element of the map; one test runs at a time.
    RUN.get_ptr_mut(0).map(|run| unsafe { &mut *run })
}

/// Puts the frame back, which runs of a test do not do by themselves, and jumps to the measured program.
#[xdp]
pub fn wrap(ctx: XdpContext) -> u32 {
    let Some(run) = run() else { return xdp_action::XDP_ABORTED };
    clock(run);
    if frame::restore(ctx.ctx, run) {
        // SAFETY: a helper call with a valid context. A constant index makes it a direct jump.
        unsafe { bpf_tail_call(ctx.as_ptr().cast(), (&raw const TARGET).cast_mut().cast(), 0) };
    }
    xdp_action::XDP_ABORTED
}

/// Reads the clock once a chunk: a chunk that was interrupted can be told from the others, and what the system call
/// takes around the runs is in none.
#[inline(always)]
fn clock(run: &mut Run) {
    let count = run.count;
    run.count = count + 1;
    if count & (CHUNK - 1) == 0 {
        // SAFETY: a helper without arguments.
        let now = unsafe { bpf_ktime_get_ns() };
        let chunk = (count / CHUNK).wrapping_sub(1) as usize;
        if chunk < CHUNKS {
            run.chunks[chunk] = now.wrapping_sub(run.begin) as u32;
        }
        run.begin = now;
    }
}

/// Sends the flows' frames, as live ones.
#[xdp]
pub fn generate(ctx: XdpContext) -> u32 {
    let Some(run) = run() else { return xdp_action::XDP_ABORTED };
    if frame::restore(ctx.ctx, run) { xdp_action::XDP_TX } else { xdp_action::XDP_ABORTED }
}

/// Counts what arrives.
#[xdp]
pub fn sink(_: XdpContext) -> u32 {
    if let Some(count) = ARRIVED.get_ptr_mut(0) {
        // SAFETY: this CPU's own element.
        unsafe { *count += 1 }
    }
    xdp_action::XDP_DROP
}

/// What each atomic operation returns and leaves: on one word, one after the other.
#[classifier]
pub fn test_atomics(_: TcContext) -> i32 {
    let Some(words) = ATOMICS.get_ptr_mut(0) else { return 1 };
    let words = words.cast::<u64>();
    // SAFETY: elements of the map's array.
    unsafe {
        let (narrow, wide) = (words.cast::<u32>(), words.add(1));
        words.add(2).write(atomics::fetch_add32(narrow, 5) as u64);
        words.add(3).write(atomics::fetch_add64(wide, 1 << 40));
        words.add(4).write(atomics::exchange32(narrow, 7) as u64);
        words.add(5).write(atomics::exchange64(wide, 9));
        let missed = atomics::compare_exchange32(narrow, 1, 2).map_or_else(|now| now as u64, |()| 0);
        words.add(6).write(missed << 32 | atomics::compare_exchange64(wide, 1, 2).map_or_else(|now| now, |()| 0));
        let hit = atomics::compare_exchange32(narrow, 7, 8).is_ok() && atomics::compare_exchange64(wide, 9, 10).is_ok();
        words.add(7).write(
            hit as u64
                | (atomics::fetch_or64(wide, 5) | atomics::fetch_and64(wide, 6)) << 8
                | ((atomics::fetch_or32(narrow, 3) | atomics::fetch_and32(narrow, 6)) as u64) << 16,
        );
    }
    0
}

/// Marks IPv4 packets to 192.0.2.0/24, for kernels that have no other way to do so before the data plane.
#[classifier]
pub fn mark(ctx: TcContext) -> i32 {
    const NETWORK: [u8; 3] = [192, 0, 2];
    const MARK: u32 = 7;
    if ctx.load::<u16>(12) == Ok(0x0800u16.to_be()) && ctx.load::<[u8; 3]>(30) == Ok(NETWORK) {
        ctx.set_mark(MARK);
    }
    TC_ACT_UNSPEC
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
