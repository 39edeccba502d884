//! Tunnels: the packet travels inside an outer one to the real server.

use lvs_common::byte_order::{Be16, Be32};
use lvs_common::{
    abi::{AF_INET, Address, DestConfig, IpAddress, tunnel::TunnelKind},
    wire::{Ethernet, Ipv4, Ipv6, Udp, VXLAN_VNI, ethertype, fragment, length_field, protocol},
};

use crate::{
    kernel::{random, wide},
    packet::access::Packet,
    packet::jumbo,
    values::parsed::{L3, Parsed},
};

/// VXLAN header: flags with the I bit, VNI 0 (RFC 7348).
const VXLAN_FLAGS: Be32 = Be32::new((VXLAN_VNI as u32) << 24);
/// Range of GUE's and VXLAN's source ports (RFC 6335's dynamic ports).
const PORT_BASE: u16 = 49152;
/// GRE's checksum-present bit (RFC 2784).
const GRE_CSUM: Be16 = Be16::new(0x8000);

/// An outer packet to be.
#[derive(Clone, Copy)]
pub struct Outer<'a> {
    pub kind: TunnelKind,
    pub flags: u8,
    /// Destination port of GUE and VXLAN.
    pub port: Be16,
    /// Whether the outer header is IPv6.
    pub v6: bool,
    pub source: &'a Address,
    pub destination: &'a Address,
    /// IPv4: copied from the inner packet, unless `pmtu_disc` is off.
    pub df: bool,
}

impl<'a> Outer<'a> {
    /// Bytes between the Ethernet header and the packet, all headers of the tunnel.
    #[inline(always)]
    pub fn overhead(&self) -> u32 {
        let ip = if self.v6 { 40 } else { 20 };
        ip + self.kind.header(self.flags)
    }

    /// Whether the headers include a checksum over the payload, which only TC can make.
    #[inline(always)]
    pub fn summed(&self) -> bool {
        self.kind.is_summed(self.flags)
    }

    /// The tunnel of a destination with this configuration. Reads it each time: what has been compared is a known number to
    /// the verifier, and it follows everything after once for each number.
    #[inline(always)]
    pub fn new(config: *const DestConfig, family: u8, source: &'a Address, destination: &'a Address, df: bool) -> Self {
        // SAFETY: an element of the map, written by `lvsadm` only while it is not in force.
        unsafe {
            Outer {
                kind: (&raw const (*config).tunnel).read_volatile(),
                flags: (&raw const (*config).tunnel_flags).read_volatile(),
                port: (&raw const (*config).tunnel_port).read_volatile(),
                v6: family != AF_INET,
                source,
                destination,
                df,
            }
        }
    }
}

/// Outer TOS of an inner one: ECN copied, except that CE becomes ECT(0) (RFC 3168 §9.1.1's full-functionality option).
#[inline(always)]
fn outer_tos(tos: u8) -> u8 {
    match tos & 3 {
        3 => (tos & !3) | 2,
        _ => tos,
    }
}

/// A port that is the same for all packets of a flow and spreads flows.
#[inline(always)]
fn flow_port<A: IpAddress>(p: &Parsed<A>) -> Be16 {
    let (a, b) = p.source.words();
    let mix = (a ^ b.rotate_left(9) ^ p.source_port.word() as u32).wrapping_mul(0x9e37_79b1);
    Be16::new((mix >> 18) as u16 | PORT_BASE)
}

/// Wraps the packet, whose TTL has been lowered, into `outer`. Pointers into the packet are void after it.
///
/// `whole`: it fits the next hop and need not be cut.
#[inline(always)]
pub fn apply<P: Packet, A: IpAddress>(packet: P, p: &Parsed<A>, outer: &Outer<'_>, whole: bool) -> bool {
    let overhead = outer.overhead() as usize;
    let inner_v4 = A::IS_V4;
    let mut length = p.length;
    if P::SUMS_PAYLOAD && jumbo::is_jumbo(p) {
        let Ok(packet) = packet.in_tc() else { return false };
        if !jumbo::remove(packet) {
            return false;
        }
        length = length.wrapping_sub(jumbo::HEADER);
    }
    let l4 = outer.kind.carried(inner_v4);
    if !packet.encapsulate(overhead, outer.v6, l4, !whole) {
        return false;
    }
    let kind = if outer.v6 { ethertype::IPV6 } else { ethertype::IPV4 };
    if !packet.set_carried(kind) {
        return false;
    }
    let ip = if outer.v6 { 40 } else { 20 };
    let length = length.wrapping_add(overhead as u32);
    let written =
        if outer.v6 { write_v6(packet, p, outer, l4, length) } else { write_v4(packet, p, outer, l4, length) };
    if !written {
        return false;
    }
    match outer.kind {
        TunnelKind::GUE => write_gue(packet, p, outer, L3 + ip, length - ip as u32, inner_v4),
        TunnelKind::GRE => write_gre(packet, outer, L3 + ip, length - ip as u32, inner_v4),
        TunnelKind::VXLAN => write_vxlan(packet, p, outer, L3 + ip, length - ip as u32, inner_v4),
        _ => true,
    }
}

#[inline(always)]
fn write_v4<P: Packet, A>(packet: P, p: &Parsed<A>, outer: &Outer<'_>, l4: u8, length: u32) -> bool {
    packet.update::<Ipv4>(
        L3,
        #[inline(always)]
        |h| {
            // RFC 6864: an identification is for packets that may be fragmented.
            let (fragment, id) = if outer.df {
                (fragment::DF, Be16::ZERO)
            } else {
                (Be16::ZERO, Be16::from_word(random::word() as u16 | 1))
            };
            *h = Ipv4 {
                version_ihl: 0x45,
                tos: outer_tos(p.tos),
                length: length_field(length),
                id,
                fragment,
                ttl: p.ttl.wrapping_sub(1),
                protocol: l4,
                check: 0,
                source: outer.source.0[0],
                destination: outer.destination.0[0],
            }
            .sealed();
        },
    )
}

#[inline(always)]
fn write_v6<P: Packet, A>(packet: P, p: &Parsed<A>, outer: &Outer<'_>, l4: u8, length: u32) -> bool {
    packet.update::<Ipv6>(
        L3,
        #[inline(always)]
        |h| {
            h.version = Be32::new(6 << 28 | (outer_tos(p.tos) as u32) << 20);
            h.payload_length = length_field(length.wrapping_sub(40));
            h.next_header = l4;
            h.hop_limit = p.ttl.wrapping_sub(1);
            // SAFETY: addresses in maps, and fields of a header in the packet.
            unsafe {
                wide::copy(&raw const outer.source.0, &raw mut h.source);
                wide::copy(&raw const outer.destination.0, &raw mut h.destination);
            }
        },
    )
}

#[inline(always)]
fn write_udp<P: Packet>(packet: P, at: usize, source: Be16, port: Be16, length: u32) -> bool {
    packet.write(at, Udp { source, destination: port, length: length_field(length), check: 0 })
}

/// GUE variant 0 (draft-ietf-intarea-gue): version, header length 0, inner protocol, no flags.
#[inline(always)]
fn write_gue<P: Packet, A: IpAddress>(
    packet: P,
    p: &Parsed<A>,
    outer: &Outer<'_>,
    at: usize,
    length: u32,
    v4: bool,
) -> bool {
    let inner = if v4 { protocol::IPIP } else { protocol::IPV6 };
    if !write_udp(packet, at, flow_port(p), outer.port, length)
        || !packet.write(at + 8, u32::from_ne_bytes([0, inner, 0, 0]))
    {
        return false;
    }
    !outer.summed() || crate::packet::checksum::fill_outer_udp(packet, (outer.source, outer.destination), at, length)
}

#[inline(always)]
fn write_gre<P: Packet>(packet: P, outer: &Outer<'_>, at: usize, length: u32, v4: bool) -> bool {
    let kind = if v4 { ethertype::IPV4 } else { ethertype::IPV6 };
    let flags = if outer.summed() { GRE_CSUM } else { Be16::ZERO };
    if !packet.write(at, [flags, kind]) {
        return false;
    }
    !outer.summed() || packet.write(at + 4, [0u16; 2]) && crate::packet::checksum::fill_gre(packet, at, length)
}

/// VXLAN: an Ethernet frame of no particular addresses inside.
#[inline(always)]
fn write_vxlan<P: Packet, A: IpAddress>(
    packet: P,
    p: &Parsed<A>,
    outer: &Outer<'_>,
    at: usize,
    length: u32,
    v4: bool,
) -> bool {
    let vxlan = [VXLAN_FLAGS.word() as u16, (VXLAN_FLAGS.word() >> 16) as u16, 0, 0];
    // Locally administered addresses: the far end takes the inner packet for its own by its IP address.
    let ethernet = Ethernet {
        destination: [0x02, 0, 0, 0, 0, 1],
        source: [0x02, 0, 0, 0, 0, 2],
        ethertype: if v4 { ethertype::IPV4 } else { ethertype::IPV6 },
    };
    write_udp(packet, at, flow_port(p), outer.port, length)
        && packet.write(at + 8, vxlan)
        && packet.write(at + 16, ethernet)
}
