//! ICMP errors about balanced connections: translated and sent to the party they concern. TC only.
//!
//! An error travels against the packet that it quotes: one about a reply comes from the client's side and goes to the real
//! server, one about a client's packet comes from the server's side and goes to the client.

use crate::values::icmp_error::IcmpError;
use core::hint::black_box;

use crate::values::icmp_error::OFFSETS;
use lvs_common::{
    abi::{AF_INET, EntryKind, Settings},
    exit::Exit,
    icmp,
    state::sctp,
    table::Store,
    wire::{Icmp, protocol, tcp_flags},
};

use crate::{
    config::{self, watch},
    exits,
    kernel::{clock, cpu},
    maps::{REPORTS4, REPORTS6},
    packet::{access::Packet, checksum, parse::Family, tc::TcPacket},
    programs::{Tail, jump},
    rare::icmp::{
        families,
        translate::{self, Replaced},
    },
    table::{find, store::Table},
    values::parsed::L3,
};

/// Bytes that are made linear: an error's headers, those of a tunnel's packet in it and of the client's packet in that.
const LINEAR: u32 = 256;
/// Bytes of an ICMP header.
pub const HEADER: usize = size_of::<Icmp>();

/// A family whose errors are read.
pub trait Reported: Family + Replaced + 'static {
    /// This CPU's place for one: the stack has none left.
    fn report() -> Option<*mut IcmpError<Self>>;
}

impl Reported for u32 {
    #[inline(always)]
    fn report() -> Option<*mut IcmpError<u32>> {
        REPORTS4.get_ptr_mut(cpu::number())
    }
}

impl Reported for [u32; 4] {
    #[inline(always)]
    fn report() -> Option<*mut IcmpError<[u32; 4]>> {
        REPORTS6.get_ptr_mut(cpu::number())
    }
}

/// Reads an ICMP error about a packet from where the error goes.
#[inline(always)]
pub fn read<A: Reported>(packet: TcPacket) -> Option<&'static IcmpError<A>> {
    if !read_error::<A>(packet) || !read_quote::<A>(packet) {
        return None;
    }
    // SAFETY: this CPU's own element; a program takes one reference.
    A::report().map(|report| unsafe { &*report })
}

/// Reads the error itself. A function of its own, as is [`read_quote`]: together they need more stack than there is.
#[inline(never)]
fn read_error<A: Reported>(packet: TcPacket) -> bool {
    let length = packet.length();
    packet.pull(if length < LINEAR { length } else { LINEAR } as usize);
    let Ok(outer) = A::network(packet, L3, false) else { return false };
    let v6 = A::FAMILY != AF_INET;
    if outer.carried != if v6 { protocol::ICMPV6 } else { protocol::ICMP } {
        return false;
    }
    let (Some(header), Some(report)) = (packet.at::<Icmp>(outer.l4()), A::report()) else { return false };
    // SAFETY: checked by `at`; this CPU's own element.
    unsafe {
        if !icmp::is_error(v6, (*header).kind) {
            return false;
        }
        (*report).quote = outer.l4() + HEADER;
        (*report).outer = outer;
    }
    true
}

/// Reads the packet that the error quotes.
#[inline(never)]
fn read_quote<A: Reported>(packet: TcPacket) -> bool {
    let Some(report) = A::report() else { return false };
    // SAFETY: this CPU's own element.
    let (quote, goes_to) = unsafe { ((*report).quote(), (*report).outer.destination) };
    let Ok(mut quoted) = A::quoted(packet, quote) else { return false };
    // Straight from the packet, the compiler would have a function move it.
    quoted.destination = black_box(quoted.destination);
    // SAFETY: as above.
    unsafe { (*report).about = quoted.reversed() }
    quoted.source == goes_to
}

/// Serves an ICMP packet.
#[inline(always)]
pub fn run<A: Reported>(packet: TcPacket) -> i32
where
    Table: Store<A>,
{
    let Some(report) = read::<A>(packet) else { return exits::pass(packet, Exit::NotOurs) };
    let Some(settings) = config::settings() else { return TcPacket::PASS };
    let (virt, reply) = watch::watched(report.about.source, report.about.destination, settings);
    if !(virt || reply) || !packet.for_this_host() {
        return exits::pass(packet, Exit::NotOurs);
    }
    let now = clock::jiffies();
    if virt && let Some((at, connection)) = find::of_client(&report.about) {
        // SAFETY: an element of the map.
        let c = unsafe { &*connection };
        if !find::expired(c, now) {
            if c.is_crossed() {
                return families::go_on::<A>(packet, at);
            }
            return translate::to_server(packet, report, settings, c, now);
        }
    }
    if reply && let Some((at, connection)) = find::of_server(&report.about) {
        // SAFETY: an element of the map.
        let c = unsafe { &*connection };
        if c.kind == EntryKind::CROSSED {
            return families::go_on::<A>(packet, at);
        }
        return translate::to_client(packet, report, settings, c, now);
    }
    if report.about.protocol != protocol::UDP && report.about.protocol != 0 || !reply {
        return unknown(packet, report, settings);
    }
    jump(packet, if A::FAMILY == AF_INET { Tail::Tunnel4 } else { Tail::Tunnel6 })
}

/// Serves an error about no connection.
#[inline(always)]
pub fn unknown<A: Reported>(packet: TcPacket, report: &IcmpError<A>, settings: &Settings) -> i32 {
    if settings.sysctls.schedule_icmp == 0 {
        return exits::pass(packet, Exit::NotOurs);
    }
    // As if it were the first packet of what it is about; it comes back itself when the connection is made.
    let mut first = report.about;
    first.flags = match first.protocol {
        protocol::SCTP => sctp::chunk::INIT,
        _ => tcp_flags::SYN,
    };
    if !A::leave(&first) {
        return exits::pass(packet, Exit::NotOurs);
    }
    jump(packet, if A::FAMILY == AF_INET { Tail::New4 } else { Tail::New6 })
}

/// Whether the error's checksum is right: one that is translated incrementally would otherwise stay wrong unseen.
#[inline(always)]
pub fn is_intact<A: Reported>(packet: TcPacket, report: &IcmpError<A>) -> bool {
    let outer = &report.outer;
    let end = (L3 as u32).wrapping_add(outer.length);
    let length = end.wrapping_sub(outer.l4() as u32);
    let Some(sum) = checksum::sum(packet.0, outer.l4() as u32, end) else { return false };
    let pseudo = if A::FAMILY == AF_INET {
        0
    } else {
        checksum::pseudo(outer.source.widen().0, outer.destination.widen().0, protocol::ICMPV6, length)
    };
    lvs_common::checksum::fold(sum + pseudo) == 0xffff
}

/// The error's header.
#[inline(always)]
pub fn header<A>(packet: TcPacket, report: &IcmpError<A>) -> Option<*mut Icmp> {
    packet.at::<Icmp>(report.outer.l4() & OFFSETS)
}
