//! BIG TCP over IPv6: a packet of more than 65,535 bytes has its length in a hop-by-hop header (RFC 2675) until it is cut
//! into segments. The kernel removes the header when it cuts the packet, but not within a tunnel. IPv4 has no such header.

use lvs_common::{
    abi::IpAddress,
    wire::{Ipv6, protocol},
};

use crate::{
    packet::{
        access::{Packet, TcPacket},
        tc::Room,
    },
    values::parsed::{L3, Parsed},
};

/// Bytes of the header.
pub const HEADER: u32 = 8;
/// Bytes of an IP packet that a length field can hold, with the IPv6 header in front.
pub const LONGEST: u32 = 65535 + 40;

/// Whether a packet is so long that its length stands in such a header.
#[inline(always)]
pub fn is_jumbo<A: IpAddress>(p: &Parsed<A>) -> bool {
    !A::IS_V4 && p.length > LONGEST && p.carried == protocol::TCP && p.l4() == L3 + 40 + HEADER as usize
}

/// Takes the header out. Pointers into the packet are void after it.
#[inline(always)]
pub fn remove(packet: TcPacket) -> bool {
    packet.adjust_segments_room(-(HEADER as i32), Room::AfterNetwork)
        && packet.update::<Ipv6>(L3, |h| h.next_header = protocol::TCP)
}
