//! TCP segments of the director's own, which carry nothing: a RST, a challenge.

use lvs_common::byte_order::{Be16, Be32};
use lvs_common::{
    abi::IpAddress,
    checksum,
    wire::{Ipv4, Ipv6, Tcp, fragment, protocol},
};

/// Bytes of a TCP header.
pub const HEADER: u32 = size_of::<Tcp>() as u32;
/// TTL of a host's own packets.
const TTL: u8 = 64;

/// The TCP header of a segment from one end to another: address and port, as they stand in packets. The numbers are in host
/// order. An unfinished checksum (`is_partial`) is the pseudo header's alone: the rest is added where the packet leaves.
#[inline(always)]
pub fn tcp<A: IpAddress>(from: (A, Be16), to: (A, Be16), numbers: [u32; 2], flags: u8, is_partial: bool) -> Tcp {
    let pseudo = crate::packet::checksum::pseudo(from.0.widen().0, to.0.widen().0, protocol::TCP, HEADER);
    let mut tcp = Tcp {
        source: from.1,
        destination: to.1,
        sequence: Be32::new(numbers[0]),
        acknowledgment: Be32::new(numbers[1]),
        offset: (HEADER as u8 / 4) << 4,
        flags,
        window: Be16::ZERO,
        check: 0,
        urgent: Be16::ZERO,
    };
    let sum = pseudo
        + tcp.source.word() as u64
        + tcp.destination.word() as u64
        + tcp.sequence.word() as u64
        + tcp.acknowledgment.word() as u64
        + u16::from_ne_bytes([tcp.offset, tcp.flags]) as u64;
    tcp.check = if is_partial { checksum::fold(pseudo) } else { !checksum::fold(sum) };
    tcp
}

/// The IPv4 header around it. It is never fragmented, so it needs no identification (RFC 6864 §4.1).
#[inline(always)]
pub fn ipv4(source: u32, destination: u32) -> Ipv4 {
    Ipv4 {
        version_ihl: 0x45,
        length: Be16::new(size_of::<Ipv4>() as u16 + HEADER as u16),
        fragment: fragment::DF,
        ttl: TTL,
        protocol: protocol::TCP,
        source,
        destination,
        ..Ipv4::default()
    }
    .sealed()
}

/// The IPv6 header around it.
#[inline(always)]
pub fn ipv6(source: [u32; 4], destination: [u32; 4]) -> Ipv6 {
    Ipv6 {
        version: Be32::new(0x6000_0000),
        payload_length: Be16::new(HEADER as u16),
        next_header: protocol::TCP,
        hop_limit: TTL,
        source,
        destination,
    }
}
