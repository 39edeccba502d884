//! Requests for an ICMP error of the director's own, which the program `reject` makes (RFC 792, RFC 4443).

use crate::{
    exits,
    packet::{access::Packet, ttl},
    programs::{Tail, jump},
};
use lvs_common::{
    abi::{AF_INET, DestId, IpAddress},
    exit::Exit,
    wire::icmp,
};

/// Words left for the program that answers.
pub mod note {
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
pub fn icmp_error<P: Packet, A: IpAddress>(packet: P, kind: u8, code: u8, rest: u32, ends: [DestId; 2]) -> i32 {
    packet.set_note(note::KIND, (kind as u32) << 8 | code as u32);
    packet.set_note(note::REST, rest);
    packet.set_note(note::FROM, ends[0].get());
    packet.set_note(note::OWN, ends[1].get());
    jump(packet, if A::FAMILY == AF_INET { Tail::Reject4 } else { Tail::Reject6 });
    P::DROP
}

/// The TTL ran out.
#[inline(always)]
pub fn time_exceeded<P: Packet, A: IpAddress>(packet: P, from: DestId, own: DestId) -> i32 {
    exits::count(Exit::DropTtl);
    icmp_error::<P, A>(
        packet,
        if A::FAMILY == AF_INET { icmp::TIME_EXCEEDED } else { icmp::V6_TIME_EXCEEDED },
        0,
        0,
        [from, own],
    )
}

/// Too big for `mtu`. The packet is quoted as it would have been sent, with the TTL lowered.
#[inline(always)]
pub fn too_big<P: Packet, A: IpAddress>(packet: P, mtu: u32, from: DestId, own: DestId) -> i32 {
    exits::count(Exit::DropTooBig);
    if packet.device() != 0 && !ttl::lower_ttl::<P, A>(packet) {
        return P::DROP;
    }
    if A::FAMILY == AF_INET {
        icmp_error::<P, A>(packet, icmp::UNREACHABLE, icmp::CODE_FRAGMENTATION_NEEDED, mtu, [from, own])
    } else {
        icmp_error::<P, A>(packet, icmp::V6_TOO_BIG, 0, mtu, [from, own])
    }
}

/// No server for it.
#[inline(always)]
pub fn port_unreachable<P: Packet, A: IpAddress>(packet: P, from: DestId) -> i32 {
    exits::count(Exit::DropNoServer);
    if A::FAMILY == AF_INET {
        icmp_error::<P, A>(packet, icmp::UNREACHABLE, icmp::CODE_PORT, 0, [from, DestId::NONE])
    } else {
        icmp_error::<P, A>(packet, icmp::V6_UNREACHABLE, icmp::V6_CODE_PORT, 0, [from, DestId::NONE])
    }
}
