//! The observing programs: what `lvsadm trace` and `lvsadm capture` see packets by.
//!
//! The data plane that is attached writes no log, as a rule, and the verifier has removed what would. To observe it, `lvsadm` loads the same
//! programs once more, on the same maps, with every line of the log. Where they would jump to the program that writes a line, they
//! jump to one of these instead, which reports the packet as it leaves. Other programs here are attached in the place of the data plane's:
//! they note how a packet comes, and jump on to those.
//!
//! If `lvsadm` is killed, nothing is reported from the end of its lease on.
#![no_std]
#![no_main]
#![allow(missing_docs, reason = "a program has no public interface; items are documented where they need it")]

#[path = "../values/log_line.rs"]
mod log_line;
mod maps;
mod packet;
#[path = "../values/request.rs"]
mod request;

use core::hint::black_box;

use aya_ebpf::{
    EbpfContext as _,
    bindings::TC_ACT_REDIRECT,
    btf_maps::ProgramArray,
    helpers::{
        bpf_get_smp_processor_id,
        generated::{bpf_ktime_get_ns, bpf_tail_call},
    },
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use lvs_common::{
    abi::{
        EntryRef, ServiceId,
        observe::{Gate, HEAD, Wanted},
    },
    exit::{EXIT_COUNT, Exit},
};

use crate::{
    log_line::LogLine,
    maps::{EXITS, LEASE, LINES, REQUESTS, VISITS, Visit},
    packet::{Packet, Skb, Xdp},
};

/// What is reported of which packets; set before the programs are loaded.
#[unsafe(no_mangle)]
static WANTED: Wanted = Wanted { exits: u64::MAX, snap: 0, came: 0, logged: 0, pad: 0 };

/// The place in an array of gates of the program that writes the log.
const LOG: u32 = Gate::ALL.len() as u32;

/// What there is to be done about a packet.
mod interest {
    /// Nothing.
    pub const NONE: u32 = 0;
    /// It did not match as it came; it may as it leaves.
    pub const LATER: u32 = 1;
    /// It is reported.
    pub const WANTED: u32 = 2;
}

/// Whether a frame matches the user's expression: `lvsadm` puts that into the place of this function. There are `length` bytes of
/// `total` in `head`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn matches_frame(head: *const u8, length: u32, total: u32) -> u32 {
    black_box((head, length, total));
    black_box(1)
}

/// The same for a packet without an Ethernet header.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn matches_packet(head: *const u8, length: u32, total: u32) -> u32 {
    black_box((head, length, total));
    black_box(2)
}

#[inline(always)]
fn matches(head: &[u8; HEAD], length: u32, total: u32, is_bare: bool) -> bool {
    let head = head.as_ptr();
    let found = if is_bare { matches_packet(head, length, total) } else { matches_frame(head, length, total) };
    found != 0
}

#[inline(always)]
fn wanted() -> Wanted {
    // SAFETY: a static of this program; volatile, as the loader changes it behind the compiler's back.
    unsafe { (&raw const WANTED).read_volatile() }
}

#[inline(always)]
fn count(exit: Exit) -> Option<u64> {
    EXITS.get(exit as u32).copied()
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_ns() }
}

#[inline(always)]
fn cpu() -> u32 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_get_smp_processor_id() }
}

#[inline(always)]
fn visit<'a>(index: u32) -> Option<&'a mut Visit> {
    let index = cpu() * 2 + index;
    // SAFETY: this CPU's own element, of which a program takes one reference. Programs of one tier do not interrupt each other.
    VISITS.get_ptr_mut(index).map(|visit| unsafe { &mut *visit })
}

/// Goes on with a program of an array; returns if there is none.
#[inline(always)]
fn jump<P: Packet, const N: usize>(packet: &P, array: &ProgramArray<N>, slot: u32) {
    // SAFETY: a helper call with a valid context.
    unsafe { bpf_tail_call(packet.context(), (&raw const *array).cast_mut().cast(), slot) };
}

/// A packet comes to a gate.
#[inline(always)]
fn came<P: Packet>(packet: &P, gate: Gate) -> i32 {
    note(packet, gate);
    jump(packet, P::gates(), gate as u32);
    P::PASS
}

#[inline(always)]
fn note<P: Packet>(packet: &P, gate: Gate) -> Option<()> {
    if matches!(gate, Gate::Egress | Gate::L3Egress) && packet.was_served() {
        // The visit may be that of a packet that sends this one.
        return None;
    }
    let visit = visit(P::VISIT)?;
    visit.interest = interest::NONE;
    let length = packet.length();
    let report = &mut visit.report;
    report.head_length = packet.read(&mut report.head);
    (report.came_length, report.device, report.mark, report.gate) =
        (length, packet.device(), packet.mark(), gate as u32);
    (report.cpu, report.number, report.dest) = (cpu(), report.number.wrapping_add(1), 0);
    if !matches(&report.head, report.head_length, length, P::IS_BARE) {
        visit.interest = interest::LATER;
        return None;
    }
    report.time = now();
    if *LEASE.get(0)? < report.time {
        return None;
    }
    visit.interest = interest::WANTED;
    for (exit, before) in Exit::BESIDE.into_iter().zip(&mut visit.before) {
        *before = count(exit)?;
    }
    if let Some(request) = REQUESTS.get_ptr_mut(report.cpu) {
        // SAFETY: this CPU's own element, which the programs fill in before they read it.
        let request = unsafe { &mut *request };
        request.service = ServiceId::NONE;
        request.template = EntryRef::NONE;
    }
    let wanted = wanted();
    if wanted.came != 0 {
        (report.exits, report.has_left, report.length) = (0, 0, length);
        packet.report(visit, wanted.came);
    }
    Some(())
}

/// The data plane would write a line of the log.
#[inline(always)]
fn line<P: Packet>(packet: &P) -> i32 {
    let Some(line) = LINES.get(cpu()) else { return P::PASS };
    let line = *line;
    if line.next != 0 {
        // A connection was opened.
        if let Some(visit) = visit(P::VISIT) {
            visit.report.dest = line.dest.get();
        }
    } else {
        leave(packet, &line);
    }
    if line.level <= wanted().logged {
        jump(packet, P::gates(), LOG);
    }
    if line.next != 0 {
        jump(packet, P::programs(), line.next - 1);
        return P::DROP;
    }
    line.verdict
}

/// A packet leaves.
#[inline(always)]
fn leave<P: Packet>(packet: &P, line: &LogLine) -> Option<()> {
    let visit = visit(P::VISIT)?;
    if visit.interest == interest::NONE || line.event >= EXIT_COUNT {
        return None;
    }
    let mut exits = 1u64 << line.event;
    let report = &mut visit.report;
    if visit.interest == interest::LATER {
        let length = packet.read(&mut visit.head);
        // What is sent has an Ethernet header.
        if !matches(&visit.head, length, packet.length(), P::IS_BARE && line.verdict != TC_ACT_REDIRECT) {
            return None;
        }
        if *LEASE.get(0)? < now() {
            return None;
        }
    } else {
        for (exit, before) in Exit::BESIDE.into_iter().zip(&visit.before) {
            exits |= ((count(exit)? != *before) as u64) << exit as u32;
        }
    }
    let wanted = wanted();
    if exits & wanted.exits == 0 {
        return None;
    }
    (report.time, report.exits, report.has_left) = (now(), exits, 1);
    (report.verdict, report.length) = (line.verdict as u32, packet.length());
    (report.service, report.template) = (0, 0);
    if visit.interest == interest::WANTED
        && let Some(request) = REQUESTS.get(report.cpu)
    {
        report.service = request.service.get();
        report.template = request.template.is_some() as u32;
    }
    // It is reported once: what follows it on this CPU comes anew.
    visit.interest = interest::NONE;
    packet.report(visit, wanted.snap);
    Some(())
}

/// Attached in the place of the data plane's program.
#[xdp]
pub fn observe_xdp(ctx: XdpContext) -> u32 {
    came(&Xdp(ctx.ctx), Gate::Xdp) as u32
}

/// In the place of the program that writes the log.
#[xdp]
pub fn observe_xdp_line(ctx: XdpContext) -> u32 {
    line(&Xdp(ctx.ctx)) as u32
}

/// The programs of TC.
macro_rules! classifiers {
    ($($(#[$doc:meta])* $name:ident = $function:ident($($argument:expr),*) of $packet:ty;)+) => {
        $(
            $(#[$doc])*
            #[classifier]
            pub fn $name(ctx: TcContext) -> i32 {
                $function::<$packet>(&Skb(ctx.as_ptr().cast()), $($argument),*)
            }
        )+
    };
}

classifiers! {
    observe_ingress = came(Gate::Ingress) of Skb<false>;
    observe_egress = came(Gate::Egress) of Skb<false>;
    observe_line = line() of Skb<false>;
    observe_l3_ingress = came(Gate::L3Ingress) of Skb<true>;
    observe_l3_egress = came(Gate::L3Egress) of Skb<true>;
    observe_l3_line = line() of Skb<true>;
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
