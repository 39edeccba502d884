//! Answers of the director's own: ICMP errors (RFC 792, RFC 4443). TC only.

use crate::packet::control_block;
use lvs_common::byte_order::{Be16, Be32};
use lvs_common::{
    abi::{Address, IpAddress},
    checksum,
    exit::Exit,
    wire::{Icmp, Ipv4, Ipv6, ethertype, protocol},
};

use crate::{
    config::{self, destination::DestRef},
    egress::{route, send},
    exits,
    kernel::clock,
    packet::{access::Packet, access::TcPacket, tc::Room},
    rare::limit,
    stats,
    values::parsed::L3,
};

/// IPv4: the longest error message (RFC 1812 §4.3.2.3).
const MOST4: u32 = 576;
/// IPv6: the least MTU (RFC 4443 §2.4).
const MOST6: u32 = 1280;
/// TOS of errors: the packet's, with the precedence of internetwork control (RFC 1812 §4.3.2.5).
const PRECEDENCE: u8 = 0xc0;
const KEPT_TOS: u8 = 0x1e;
/// TTL of errors.
const TTL: u8 = 64;
/// Headers in front of what is quoted.
const HEADERS4: u32 = 28;
const HEADERS6: u32 = 48;

/// The program that answers: turns the packet into the error about it and sends it to where it came from.
#[inline(always)]
pub fn run<A: IpAddress>(packet: TcPacket) -> i32 {
    let v4 = A::IS_V4;
    let answer = control_block::icmp_answer(packet);
    let (kind, rest) = (answer.kind, answer.rest);
    // Why it is dropped has been counted.
    let Some(Ends { client, mut director, length, tos }) = ends::<A>(packet) else { return TcPacket::DROP };
    if !limit::allows::<A>(packet, &client, (kind >> 8) as u8, kind as u8) {
        return exits::drop(packet, Exit::IcmpLimited);
    }
    if let Some(settings) = config::settings()
        && let Some(dest) = DestRef::get(answer.from, settings.epoch)
    {
        director = *dest.source();
        let preferred = route::lend(
            #[inline(always)]
            |route| {
                let is_found = route::route(packet, A::FAMILY, &client, clock::jiffies(), route).is_ok();
                if is_found && route::has_source(route) { Some(route.source) } else { None }
            },
        );
        if let Some(Some(source)) = preferred {
            director = source;
        }
    }
    let headers = if v4 { HEADERS4 } else { HEADERS6 };
    // A packet taken from a quote may be cut short.
    let length = length.min(packet.length().wrapping_sub(L3 as u32));
    let quoted = length.min(if v4 { MOST4 } else { MOST6 } - headers);
    let room = packet.change_tail(L3 as u32 + quoted) && packet.adjust_room(headers as i32, Room::AfterEthernet);
    if !room || !packet.pull(L3 + headers as usize) {
        return exits::drop(packet, Exit::DropInternal);
    }
    let written = if v4 {
        write4(packet, (&director, &client), tos, (kind, rest), quoted)
    } else {
        write6(packet, (&director, &client), (kind, rest), quoted)
    };
    if !written {
        return exits::drop(packet, Exit::DropInternal);
    }
    if answer.counts_for.is_some() {
        stats::packet_out(answer.counts_for, headers + quoted);
    }
    send::<A>(packet, &client)
}

/// Sends a finished packet to `to` by the kernel's neighbour output, or up if that is the director itself.
#[inline(always)]
pub fn send<A: IpAddress>(packet: TcPacket, to: &Address) -> i32 {
    route::with(
        packet,
        #[inline(always)]
        |route| {
            if let Err(exit) = route::route(packet, A::FAMILY, to, clock::jiffies(), route) {
                return exits::drop(packet, exit);
            }
            exits::leave(packet, Exit::IcmpSent, send::send_own(packet, route))
        },
    )
}

/// What an error takes of the packet that it is about.
struct Ends {
    /// Its source.
    client: Address,
    /// Its destination.
    director: Address,
    length: u32,
    /// TOS of an IPv4 packet.
    tos: u8,
}

/// Source and destination of the packet, its length and its TOS; none of ICMP's, as there are no errors about errors (RFC 1122
/// §3.2.2).
#[inline(always)]
fn ends<A: IpAddress>(packet: TcPacket) -> Option<Ends> {
    if A::IS_V4 {
        let h = packet.read::<Ipv4>(L3)?;
        if h.protocol == protocol::ICMP {
            return None;
        }
        let (client, director) = (h.source.widen(), h.destination.widen());
        Some(Ends { client, director, length: h.length.get() as u32, tos: h.tos })
    } else {
        let h = packet.read::<Ipv6>(L3)?;
        if h.next_header == protocol::ICMPV6 {
            return None;
        }
        let (client, director) = (Address(h.source), Address(h.destination));
        Some(Ends { client, director, length: h.payload_length.get() as u32 + 40, tos: 0 })
    }
}

#[inline(always)]
fn write4(packet: TcPacket, (from, to): (&Address, &Address), tos: u8, (kind, rest): (u32, u32), quoted: u32) -> bool {
    let ip = Ipv4 {
        version_ihl: 0x45,
        tos: tos & KEPT_TOS | PRECEDENCE,
        length: Be16::new((HEADERS4 + quoted) as u16),
        id: Be16::from_word(clock::jiffies() as u16),
        fragment: Be16::ZERO,
        ttl: TTL,
        protocol: protocol::ICMP,
        check: 0,
        source: from.0[0],
        destination: to.0[0],
    }
    .sealed();
    packet.set_carried(ethertype::IPV4)
        && packet.write(L3, ip)
        && packet.write(L3 + 20, icmp(kind, rest))
        && finish(packet, L3 as u32 + 20, quoted + 8, 0)
}

#[inline(always)]
fn write6(packet: TcPacket, (from, to): (&Address, &Address), (kind, rest): (u32, u32), quoted: u32) -> bool {
    let length = quoted + 8;
    let ip = Ipv6 {
        version: Be32::new(6 << 28),
        payload_length: Be16::new(length as u16),
        next_header: protocol::ICMPV6,
        hop_limit: TTL,
        source: from.0,
        destination: to.0,
    };
    let pseudo = crate::packet::checksum::pseudo(from.0, to.0, protocol::ICMPV6, length);
    packet.set_carried(ethertype::IPV6)
        && packet.write(L3, ip)
        && packet.write(L3 + 40, icmp(kind, rest))
        && finish(packet, L3 as u32 + 40, length, pseudo)
}

/// The ICMP header of an error whose type and code are the bytes of `kind`, without its checksum.
#[inline(always)]
fn icmp(kind: u32, rest: u32) -> Icmp {
    Icmp { kind: (kind >> 8) as u8, code: kind as u8, check: 0, rest: Be32::new(rest) }
}

/// Fills in the ICMP checksum.
#[inline(always)]
fn finish(packet: TcPacket, at: u32, length: u32, pseudo: u64) -> bool {
    let Some(sum) = crate::packet::checksum::sum(packet, at, at + length) else { return false };
    packet.update::<Icmp>(at as usize, |h| h.check = !checksum::fold(sum + pseudo))
}
