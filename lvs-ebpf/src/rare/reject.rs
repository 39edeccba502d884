//! Answers of the director's own: ICMP errors (RFC 792, RFC 4443). TC only.

use aya_ebpf::helpers::generated::{bpf_skb_adjust_room, bpf_skb_change_tail};
use lvs_common::{
    abi::{AF_INET, Address, IpAddress},
    checksum,
    exit::Exit,
    wire::{Ethernet, Icmp, Ipv4, Ipv6, ethertype, icmp, protocol},
};

use crate::{
    egress::route,
    exits,
    packet::{
        access::{L3, Packet},
        parse::Family,
        tc::TcPacket,
        ttl,
    },
    programs::{Tail, jump},
    table::track::{self, Dest},
};

/// IPv4: the longest error message (RFC 1812 §4.3.2.3).
const MOST4: u32 = 576;
/// IPv6: the least MTU (RFC 4443 §2.4).
const MOST6: u32 = 1280;
/// TOS of errors: internetwork control.
const TOS: u8 = 0xc0;
/// TTL of errors.
const TTL: u8 = 64;
/// Headers in front of what is quoted.
const HEADERS4: u32 = 28;
const HEADERS6: u32 = 48;
/// `BPF_ADJ_ROOM_MAC`.
const ROOM_AFTER_MAC: u32 = 1;

/// Words left for the program that answers.
mod note {
    /// ICMP type in the upper, code in the lower byte.
    pub const KIND: usize = 0;
    /// The header's second word, host order.
    pub const REST: usize = 1;
    /// The destination whose recorded source address to answer from; 0 for the packet's own destination.
    pub const FROM: usize = 2;
    /// The destination that the answer counts for as a reply, 0 for none.
    pub const OWN: usize = 3;
}

/// Answers with an error of this type and code.
#[inline(always)]
pub fn answer<P: Packet, A: IpAddress>(packet: P, kind: u8, code: u8, rest: u32, ends: [u32; 2]) -> i32 {
    packet.set_note(note::KIND, (kind as u32) << 8 | code as u32);
    packet.set_note(note::REST, rest);
    packet.set_note(note::FROM, ends[0]);
    packet.set_note(note::OWN, ends[1]);
    jump(packet, if A::FAMILY == AF_INET { Tail::Reject4 } else { Tail::Reject6 });
    P::DROP
}

/// The TTL ran out.
#[inline(always)]
pub fn time_exceeded<P: Packet, A: IpAddress>(packet: P, from: u32, own: u32) -> i32 {
    exits::note(Exit::DropTtl);
    answer::<P, A>(
        packet,
        if A::FAMILY == AF_INET { icmp::TIME_EXCEEDED } else { icmp::V6_TIME_EXCEEDED },
        0,
        0,
        [from, own],
    )
}

/// Too big for `mtu`. The packet is quoted as it would have been sent, with the TTL lowered.
#[inline(always)]
pub fn too_big<P: Packet, A: IpAddress>(packet: P, mtu: u32, from: u32, own: u32) -> i32 {
    exits::note(Exit::DropTooBig);
    if packet.device() != 0 && !ttl::lower_ttl::<P, A>(packet) {
        return P::DROP;
    }
    if A::FAMILY == AF_INET {
        answer::<P, A>(packet, icmp::UNREACHABLE, icmp::CODE_FRAGMENTATION_NEEDED, mtu, [from, own])
    } else {
        answer::<P, A>(packet, icmp::V6_TOO_BIG, 0, mtu, [from, own])
    }
}

/// No server for it.
#[inline(always)]
pub fn port_unreachable<P: Packet, A: IpAddress>(packet: P, from: u32) -> i32 {
    exits::note(Exit::DropNoServer);
    if A::FAMILY == AF_INET {
        answer::<P, A>(packet, icmp::UNREACHABLE, icmp::CODE_PORT, 0, [from, 0])
    } else {
        answer::<P, A>(packet, icmp::V6_UNREACHABLE, icmp::V6_CODE_PORT, 0, [from, 0])
    }
}

/// The program that answers: turns the packet into the error about it and sends it to where it came from.
#[inline(always)]
pub fn run<A: Family>(packet: TcPacket) -> i32 {
    let v4 = A::FAMILY == AF_INET;
    let (kind, rest, from) = (packet.note(note::KIND), packet.note(note::REST), packet.note(note::FROM));
    // Why it is dropped has been counted.
    let Some((client, mut director, length)) = ends::<A>(packet) else { return TcPacket::DROP };
    if let Some(settings) = track::settings()
        && let Some(dest) = Dest::get(from, settings.epoch)
    {
        // SAFETY: an element of the map.
        director = unsafe { (*dest.it).source };
        if let Some(route) = route::scratch()
            && route::route(packet, A::FAMILY, &client, track::jiffies(), route)
            && route::has_source(route)
        {
            director = route.source;
        }
    }
    let headers = if v4 { HEADERS4 } else { HEADERS6 };
    // A packet taken from a quote may be cut short.
    let length = length.min(packet.length().wrapping_sub(L3 as u32));
    let quoted = length.min(if v4 { MOST4 } else { MOST6 } - headers);
    // SAFETY: helper calls with a valid context.
    let room = unsafe {
        bpf_skb_change_tail(packet.0, L3 as u32 + quoted, 0) == 0
            && bpf_skb_adjust_room(packet.0, headers as i32, ROOM_AFTER_MAC, 0) == 0
    };
    if !room || !packet.pull(L3 + headers as usize) {
        return exits::drop(packet, Exit::DropInternal);
    }
    let written = if v4 {
        write4(packet, &director, &client, kind, rest, quoted)
    } else {
        write6(packet, &director, &client, kind, rest, quoted)
    };
    if !written {
        return exits::drop(packet, Exit::DropInternal);
    }
    let own = packet.note(note::OWN);
    if own != 0 {
        exits::packet_out(own, headers + quoted);
    }
    send::<A>(packet, &client)
}

/// Sends a finished packet to `to` by the kernel's neighbour output, or up if that is the director itself.
#[inline(always)]
pub fn send<A: Family>(packet: TcPacket, to: &Address) -> i32 {
    let Some(route) = route::scratch() else { return exits::drop(packet, Exit::DropInternal) };
    if !route::route(packet, A::FAMILY, to, track::jiffies(), route) {
        return exits::drop(packet, Exit::DropNoRoute);
    }
    let verdict = if route.local { route::send_local(packet) } else { route::send_tc(packet, route) };
    exits::leave(packet, Exit::IcmpSent, verdict)
}

/// Source and destination of the packet and its length; none of ICMP's, as there are no errors about errors (RFC 1122
/// §3.2.2).
#[inline(always)]
fn ends<A: Family>(packet: TcPacket) -> Option<(Address, Address, u32)> {
    if A::FAMILY == AF_INET {
        let h = packet.at::<Ipv4>(L3)?;
        // SAFETY: checked by `at`.
        let h = unsafe { *h };
        if h.protocol == protocol::ICMP {
            return None;
        }
        Some((h.source.widen(), h.destination.widen(), u16::from_be(h.length) as u32))
    } else {
        let h = packet.at::<Ipv6>(L3)?;
        // SAFETY: checked by `at`.
        let h = unsafe { *h };
        if h.next_header == protocol::ICMPV6 {
            return None;
        }
        Some((Address(h.source), Address(h.destination), u16::from_be(h.payload_length) as u32 + 40))
    }
}

#[inline(always)]
fn write4(packet: TcPacket, from: &Address, to: &Address, kind: u32, rest: u32, quoted: u32) -> bool {
    let (Some(ethernet), Some(h), Some(i)) =
        (packet.at::<Ethernet>(0), packet.at::<Ipv4>(L3), packet.at::<Icmp>(L3 + 20))
    else {
        return false;
    };
    let ip = Ipv4 {
        version_ihl: 0x45,
        tos: TOS,
        length: ((HEADERS4 + quoted) as u16).to_be(),
        id: track::jiffies() as u16,
        fragment: 0,
        ttl: TTL,
        protocol: protocol::ICMP,
        check: 0,
        source: from.0[0],
        destination: to.0[0],
    }
    .sealed();
    // SAFETY: checked by `at`.
    unsafe {
        (*ethernet).ethertype = ethertype::IPV4;
        *h = ip;
        *i = Icmp { kind: (kind >> 8) as u8, code: kind as u8, check: 0, rest: rest.to_be() };
    }
    finish(packet, L3 as u32 + 20, quoted + 8, 0)
}

#[inline(always)]
fn write6(packet: TcPacket, from: &Address, to: &Address, kind: u32, rest: u32, quoted: u32) -> bool {
    let (Some(ethernet), Some(h), Some(i)) =
        (packet.at::<Ethernet>(0), packet.at::<Ipv6>(L3), packet.at::<Icmp>(L3 + 40))
    else {
        return false;
    };
    let length = quoted + 8;
    // SAFETY: checked by `at`.
    unsafe {
        (*ethernet).ethertype = ethertype::IPV6;
        *h = Ipv6 {
            version: (6u32 << 28).to_be(),
            payload_length: (length as u16).to_be(),
            next_header: protocol::ICMPV6,
            hop_limit: TTL,
            source: from.0,
            destination: to.0,
        };
        *i = Icmp { kind: (kind >> 8) as u8, code: kind as u8, check: 0, rest: rest.to_be() };
    }
    let pseudo = crate::packet::checksum::pseudo(from.0, to.0, protocol::ICMPV6, length);
    finish(packet, L3 as u32 + 40, length, pseudo)
}

/// Fills in the ICMP checksum.
#[inline(always)]
fn finish(packet: TcPacket, at: u32, length: u32, pseudo: u64) -> bool {
    let Some(sum) = crate::packet::checksum::sum(packet.0, at, at + length) else { return false };
    let Some(i) = packet.at::<Icmp>(at as usize) else { return false };
    // SAFETY: checked by `at`.
    unsafe { (*i).check = !checksum::fold(sum + pseudo) }
    true
}
