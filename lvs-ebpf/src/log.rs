//! The log. The level is a constant that is set when the programs are loaded. If the log is off, the verifier removes its
//! code, so it costs nothing.
//!
//! A program of its own writes a line, and a program that ends a packet's journey jumps to it: to write a line takes more
//! stack than other programs have left.

use crate::values::log_line::LogLine;
use aya_log_ebpf::{
    log,
    macro_support::{Level, level_enabled},
};
use lvs_common::byte_order::Be16;
use lvs_common::{
    abi::{DestId, IpAddress},
    exit::{self, Exit},
    programs::Program,
    wire::{Ipv4, Ipv6, ethertype},
};

use crate::{
    kernel::{cpu, scratch},
    maps::LINES,
    packet::access::Packet,
    stats,
    values::parsed::L3,
};

/// The level of a number.
#[inline(always)]
fn level(number: u32) -> Level {
    match number {
        1 => Level::Error,
        2 => Level::Warn,
        3 => Level::Info,
        4 => Level::Debug,
        _ => Level::Trace,
    }
}

/// Ends a program whose packet leaves by `exit` with this verdict.
#[inline(always)]
pub fn exit<P: Packet>(packet: P, exit: Exit, verdict: i32) -> i32 {
    if level_enabled(level(exit.level())) {
        write(packet, LogLine { event: exit as u32, level: exit.level(), dest: DestId::NONE, next: 0, verdict });
    }
    verdict
}

/// Logs that a packet has opened a connection to `dest`; the packet goes on with the program in slot `next`. Returns where the
/// log is off, or the kernel refuses.
#[inline(always)]
pub fn opened<P: Packet>(packet: P, dest: DestId, next: u32) {
    if level_enabled(Level::Info) {
        let line = LogLine { event: exit::OPENED, level: Level::Info as u32, dest, next: next + 1, verdict: P::DROP };
        write(packet, line);
    }
}

/// Has a line written; returns only if it cannot.
#[inline(always)]
fn write<P: Packet>(packet: P, line: LogLine) {
    if scratch::lend(&LINES, |place| *place = line).is_some() {
        packet.tail_call(Program::Log.slot(true));
    }
}

/// The program that writes: the event's number, the device's, protocol, source and destination, the destination's number.
#[inline(always)]
pub fn run<P: Packet>(packet: P) -> i32 {
    let Some(line) = LINES.get(cpu::number()) else { return P::PASS };
    let line = *line;
    match packet.carried() {
        ethertype::IPV4 => write4(packet, &line),
        ethertype::IPV6 => write6(packet, &line),
        _ => {}
    }
    if line.next != 0 {
        packet.tail_call(line.next - 1);
        stats::exit(Exit::DropTailCall);
    }
    line.verdict
}

/// Source and destination port, if the packet reaches so far.
#[inline(always)]
fn ports<P: Packet>(packet: P, at: usize) -> [u16; 2] {
    packet.read::<[Be16; 2]>(at).map_or([0; 2], |ports| ports.map(Be16::get))
}

#[inline(always)]
fn write4<P: Packet>(packet: P, line: &LogLine) {
    let Some(h) = packet.read::<Ipv4>(L3) else { return };
    let [from_port, to_port] = ports(packet, L3 + u32::HEADER);
    log!(
        packet,
        level(line.level),
        "{} {} {} {} {:i} {} {:i} {}",
        line.event,
        packet.device(),
        line.dest.get(),
        h.protocol,
        u32::from_be(h.source),
        from_port,
        u32::from_be(h.destination),
        to_port
    );
}

/// An IPv6 address as its bytes.
#[inline(always)]
fn octets(address: [u32; 4]) -> [u8; 16] {
    let [a, b, c, d] = address.map(u32::to_ne_bytes);
    [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3]]
}

#[inline(always)]
fn write6<P: Packet>(packet: P, line: &LogLine) {
    let Some(h) = packet.read::<Ipv6>(L3) else { return };
    let [from_port, to_port] = ports(packet, L3 + <[u32; 4]>::HEADER);
    log!(
        packet,
        level(line.level),
        "{} {} {} {} {:i} {} {:i} {}",
        line.event,
        packet.device(),
        line.dest.get(),
        h.next_header,
        octets(h.source),
        from_port,
        octets(h.destination),
        to_port
    );
}
