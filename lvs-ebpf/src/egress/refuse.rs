//! Refusals: the program `Reject` answers a packet with an ICMP error (RFC 792, RFC 4443). TC only.

use lvs_common::{
    abi::{DestId, IpAddress},
    exit::Exit,
    programs::Program,
    wire::icmp,
};

use crate::{
    packet::{
        access::Packet,
        access::TcPacket,
        control_block::{self, IcmpAnswer},
        ttl,
    },
    programs::jump,
    stats,
};

/// Who answers, and for whom the answer counts.
#[derive(Clone, Copy)]
pub struct Sender {
    /// The destination whose recorded source address the answer comes from; 0 for the packet's own destination address.
    pub from: DestId,
    /// The destination that the answer counts for as a reply, 0 for none.
    pub counts_for: DestId,
}

impl Sender {
    /// The packet's own destination address; the answer counts for no destination.
    pub const VIP: Sender = Sender { from: DestId::NONE, counts_for: DestId::NONE };

    /// The packet's own destination address; the answer counts as a reply of `dest`.
    #[inline(always)]
    pub const fn vip_for(dest: DestId) -> Sender {
        Sender { from: DestId::NONE, counts_for: dest }
    }

    /// The director's address toward real server `dest`.
    #[inline(always)]
    pub const fn toward(dest: DestId) -> Sender {
        Sender { from: dest, counts_for: DestId::NONE }
    }
}

/// Answers with an error of this type and code; `rest` is the second word of its header, host order.
#[inline(always)]
pub fn icmp_error<A: IpAddress>(packet: TcPacket, (kind, code): (u8, u8), rest: u32, sender: Sender) -> i32 {
    let kind = (kind as u32) << 8 | code as u32;
    let answer = IcmpAnswer { kind, rest, from: sender.from, counts_for: sender.counts_for };
    control_block::set_icmp_answer(packet, &answer);
    jump::<A, _>(packet, Program::Reject)
}

/// The TTL or hop limit ran out.
#[inline(always)]
pub fn time_exceeded<A: IpAddress>(packet: TcPacket, sender: Sender) -> i32 {
    stats::exit(Exit::DropTtl);
    let kind = if A::IS_V4 { icmp::TIME_EXCEEDED } else { icmp::V6_TIME_EXCEEDED };
    icmp_error::<A>(packet, (kind, 0), 0, sender)
}

/// The packet is too big for `mtu`. The answer quotes it as it would have been sent, with the TTL lowered.
#[inline(always)]
pub fn too_big<A: IpAddress>(packet: TcPacket, mtu: u32, sender: Sender) -> i32 {
    stats::exit(Exit::DropTooBig);
    if packet.device() != 0 && !ttl::lower_ttl::<_, A>(packet) {
        return TcPacket::DROP;
    }
    let kind = if A::IS_V4 { (icmp::UNREACHABLE, icmp::CODE_FRAGMENTATION_NEEDED) } else { (icmp::V6_TOO_BIG, 0) };
    icmp_error::<A>(packet, kind, mtu, sender)
}

/// There is no way to the packet's real server.
#[inline(always)]
pub fn host_unreachable<A: IpAddress>(packet: TcPacket, exit: Exit, sender: Sender) -> i32 {
    stats::exit(exit);
    let kind =
        if A::IS_V4 { (icmp::UNREACHABLE, icmp::CODE_HOST) } else { (icmp::V6_UNREACHABLE, icmp::V6_CODE_ADDRESS) };
    icmp_error::<A>(packet, kind, 0, sender)
}

/// The service has no server for the packet.
#[inline(always)]
pub fn port_unreachable<A: IpAddress>(packet: TcPacket, sender: Sender) -> i32 {
    stats::exit(Exit::DropNoServer);
    let kind = if A::IS_V4 { (icmp::UNREACHABLE, icmp::CODE_PORT) } else { (icmp::V6_UNREACHABLE, icmp::V6_CODE_PORT) };
    icmp_error::<A>(packet, kind, 0, sender)
}
