//! Errors about connections whose real server is of another family than their client: they become errors of the other family
//! (RFC 7915, sections 4.2 and 5.2), and so does what they quote.

use crate::packet::parse::Family;
use crate::rare::icmp::{path, read};
use crate::table::store;
use lvs_common::byte_order::{Be16, Be32};
use lvs_common::programs::Program;
use lvs_common::{
    abi::{Address, EntryKind, IpAddress},
    cross::{self, Error, Outline},
    exit::Exit,
    wire::{Icmp, protocol},
};

use crate::forward::families::translate as families;
use crate::forward::fullnat::handover;
use crate::{
    config::{self, destination::DestRef},
    egress::{route, send},
    exits,
    kernel::{clock, scratch},
    maps::SCRATCH,
    packet::{access::Packet, access::TcPacket, checksum},
    programs::jump,
    rare::icmp::translate,
    stats,
    table::alias,
    values::{icmp_error::IcmpError, parsed::L3, route::By},
};

/// Most bytes that are quoted after the quoted network header: so many that no error is too long in either family.
const QUOTED: u32 = 512;

/// Goes on with an error about entry `at`.
#[inline(always)]
pub fn forward_error<A: Family>(packet: TcPacket, at: u32) -> i32 {
    if !handover::store(at) {
        return exits::drop(packet, Exit::DropInternal);
    }
    jump::<A, _>(packet, Program::IcmpFamilies)
}

/// Where a translated error goes, and what it is about.
struct Way {
    source: (Address, Be16),
    destination: (Address, Be16),
    ttl: u8,
}

/// Makes an error of family `A` one of family `B`: one about a reply goes to the real server, one about a client's packet on
/// to the client.
#[inline(always)]
pub fn run<A: Family>(packet: TcPacket) -> i32 {
    let (Some(report), Some(settings)) = (read::read::<A>(packet), config::settings()) else { return TcPacket::DROP };
    let Some(at) = handover::entry() else { return TcPacket::DROP };
    let Some(entry) = store::entry::<A>(at) else { return TcPacket::DROP };
    let c = entry.get();
    let p = &report.outer;
    if !read::is_intact(packet, report) {
        return exits::drop(packet, Exit::DropMalformed);
    }
    if c.kind == EntryKind::CROSSED {
        let Some((main, connection)) = alias::connection_of::<A, A::Other>(at, c) else { return TcPacket::DROP };
        if let Some(dest) = DestRef::get(connection.dest, settings.epoch) {
            path::learn(packet, report, dest.address(), false);
        }
        let about = &report.about;
        // What `crossed` puts in is the virtual address and the client, wherever the error came from.
        let nowhere = |port| (Address::default(), port);
        let way = Way { source: nowhere(about.source_port), destination: nowhere(about.destination_port), ttl: p.ttl };
        return match translate_error::<A>(packet, report, &way) {
            Ok(()) => {
                if !handover::store(main) {
                    return exits::drop(packet, Exit::DropInternal);
                }
                jump::<A::Other, _>(packet, Program::IcmpToClient)
            }
            Err(exit) => exits::drop(packet, exit),
        };
    }
    let Some(dest) = DestRef::get(c.dest, settings.epoch) else { return exits::drop(packet, Exit::DropNoDestination) };
    let (to, family) = (dest.address(), dest.family());
    let own = packet.device() == 0;
    if p.ttl <= 1 && !own {
        return exits::drop(packet, Exit::DropTtl);
    }
    let Some(ends) = families::ends(c, &dest) else { return exits::drop(packet, Exit::DropInternal) };
    let way = Way { source: ends.source, destination: ends.destination, ttl: p.ttl.wrapping_sub(!own as u8) };
    let length = p.length;
    if let Err(exit) = translate_error::<A>(packet, report, &way) {
        return exits::drop(packet, exit);
    }
    route::with(
        packet,
        #[inline(always)]
        |route| {
            if let Err(exit) = route::route(packet, family, to, clock::jiffies(), route) {
                return exits::drop(packet, exit);
            }
            if route.by == By::Local {
                return exits::drop(packet, Exit::DropNoRoute);
            }
            if dest.available() {
                stats::packet_in(dest.id, length);
            }
            exits::leave(packet, Exit::IcmpForwarded, send::send_own(packet, route))
        },
    )
}

/// Sends an error that was one of the other family to the client.
#[inline(always)]
pub fn to_client<A: Family>(packet: TcPacket) -> i32 {
    let (Some(report), Some(settings)) = (read::read::<A>(packet), config::settings()) else { return TcPacket::DROP };
    let Some(at) = handover::entry() else { return TcPacket::DROP };
    let Some(connection) = store::entry::<A>(at) else { return TcPacket::DROP };
    translate::to_client(packet, report, settings, connection.get(), clock::jiffies())
}

/// The error as the other family has it.
#[inline(always)]
fn error<A: Family>(packet: TcPacket, report: &IcmpError<A>) -> Option<Error> {
    let h = packet.read::<Icmp>(report.header())?;
    let e = Error { kind: h.kind, code: h.code, rest: h.rest.get() };
    if A::IS_V4 { cross::error6(&e, report.about.length) } else { cross::error4(&e) }
}

/// Writes the error anew: both network headers, the ICMP header, and what is quoted after them.
#[inline(always)]
fn translate_error<A: Family>(packet: TcPacket, report: &IcmpError<A>, way: &Way) -> Result<(), Exit> {
    let Some(error) = error(packet, report) else { return Err(Exit::DropUntranslatable) };
    let (outer, about) = (&report.outer, &report.about);
    let from = report.transport() as u32;
    // A frame may be longer than the packet in it.
    let end = (L3 as u32).wrapping_add(outer.length);
    let left = end.wrapping_sub(from);
    if end < from || left < 8 || report.transport() < report.quote() {
        return Err(Exit::DropMalformed);
    }
    let length = if left > QUOTED { QUOTED } else { left };
    let inner = Outline {
        tos: about.tos,
        ttl: about.ttl,
        protocol: about.carried,
        payload: about.length.wrapping_sub((report.transport() - report.quote()) as u32),
    };
    let icmp = Icmp { kind: error.kind, code: error.code, check: 0, rest: Be32::new(error.rest) };
    let payload = (read::HEADER + <A::Other as IpAddress>::HEADER) as u32 + length;
    let protocol = if !A::IS_V4 { protocol::ICMP } else { protocol::ICMPV6 };
    let head = Outline { tos: outer.tos, ttl: way.ttl, protocol, payload };
    let (at, after) = (L3 + <A::Other as IpAddress>::HEADER, L3 + <A::Other as IpAddress>::HEADER + read::HEADER);
    let total = (L3 + <A::Other as IpAddress>::HEADER) as u32 + payload;
    let quoted_at = (after + <A::Other as IpAddress>::HEADER) as u32;
    let done = scratch::lend(
        &SCRATCH,
        #[inline(always)]
        |scratch| {
            let quoted = &mut scratch.payload;
            if !packet.load_bytes_at::<{ QUOTED as usize }, _>(from, quoted, 0, length) {
                return false;
            }
            if about.has_ports()
                && let Some(ports) = quoted.first_chunk_mut()
            {
                // Those that it has where the error goes.
                let (source, destination) = (way.destination.1, way.source.1);
                *ports = (source.word() as u32 | (destination.word() as u32) << 16).to_le_bytes();
            }
            packet.change_family(A::IS_V4)
                && packet.change_tail(total)
                && families::write::<A::Other>(packet, L3, &head, &way.source.0, &way.destination.0)
                && packet.store(at, &icmp)
                && families::write::<A::Other>(packet, after, &inner, &way.destination.0, &way.source.0)
                && packet.store_bytes_at::<{ QUOTED as usize }, _>(quoted_at, quoted, 0, length)
        },
    );
    if done == Some(true) && sum::<A::Other>(packet, at, payload, way) { Ok(()) } else { Err(Exit::DropInternal) }
}

/// Fills in the checksum of the error at `at`, which has `length` bytes.
#[inline(always)]
fn sum<B: IpAddress>(packet: TcPacket, at: usize, length: u32, way: &Way) -> bool {
    let Some(sum) = checksum::sum(packet, at as u32, at as u32 + length) else { return false };
    let pseudo =
        if B::IS_V4 { 0 } else { checksum::pseudo(way.source.0.0, way.destination.0.0, protocol::ICMPV6, length) };
    packet.update::<Icmp>(at, |h| h.check = !lvs_common::checksum::fold(sum + pseudo))
}
