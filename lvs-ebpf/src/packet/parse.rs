//! Parsing: what a packet is. XDP reads what is simple, and leaves options, extension headers and fragments to TC.

use lvs_common::byte_order::Be16;
use lvs_common::{
    abi::IpAddress,
    state::sctp,
    wire::{Ipv4, Ipv6, Ipv6Fragment, Sctp, Tcp, Udp, fragment, protocol},
};

use crate::{
    kernel::{reload::reload, wide},
    packet::{access::Packet, access::TcPacket, access::XdpPacket},
    values::parsed::{L3, OFFSETS, Parsed, Stray},
};

/// ISAKMP's port: AH and ESP packets follow the connection of their key exchange.
const ISAKMP: Be16 = Be16::new(500);

/// Bytes of headers that TC makes linear before it reads: Ethernet, the longest IPv4 header or IPv6 with some extension headers,
/// and TCP.
const LINEAR: usize = L3 + 60 + 20;

/// Extension headers that are walked past at most.
const EXTENSIONS: usize = 6;

/// Where an extension header can begin.
const EXTENSION_OFFSETS: usize = 0x3ff;

/// The offset's part of [`Ipv6Fragment::offset`].
const FRAGMENT_OFFSET: Be16 = Be16::new(0xfff8);

/// An address family whose packets are parsed.
pub trait Family: IpAddress {
    /// Reads the network header at `at` in TC. A packet that is `quoted` in an ICMP error may be a first fragment.
    fn network(packet: TcPacket, at: usize, quoted: bool) -> Result<Parsed<Self>, Stray>;

    /// Reads the network header in XDP; `None` for a packet that is TC's, one that is shorter than its header says among
    /// them.
    fn network_fast(packet: XdpPacket) -> Option<Parsed<Self>>;

    /// Parses the network header of a packet in TC; [`parse_transport`] parses the rest.
    #[inline(always)]
    fn parse_network(packet: TcPacket) -> Result<Parsed<Self>, Stray> {
        let mut parsed = Self::network(packet, L3, false)?;
        parsed.protocol = parsed.carried;
        Ok(parsed)
    }

    /// Parses the first fragment of a packet, if it has the whole transport header.
    #[inline(always)]
    fn first_fragment(packet: TcPacket) -> Result<Parsed<Self>, Stray> {
        let mut parsed = Self::network(packet, L3, true)?;
        parsed.protocol = parsed.carried;
        transport(packet, parsed.carried, &mut parsed, Stray::NotOurs)?;
        Ok(parsed)
    }

    /// Parses a packet in XDP; `None` for one that is TC's. Not a `Result`: LLVM would build the first eight bytes of what it holds in a
    /// register, as a reason may stand there, and take them apart again.
    #[inline(always)]
    fn parse_fast(packet: XdpPacket) -> Option<Parsed<Self>> {
        let mut parsed = Self::network_fast(packet)?;
        let compared = parsed.carried;
        // From here on the protocol is the byte that was loaded again: see "path explosion" in docs/develop/verifier.md.
        parsed.carried = parsed.protocol;
        if transport(packet, compared, &mut parsed, Stray::Complicated).is_err() { None } else { Some(parsed) }
    }

    /// Parses a packet quoted at `at` in an ICMP error. Its ports are sure to be there, but not the rest of its transport header
    /// (RFC 792). `protocol` stays 0 for a protocol that is not balanced.
    #[inline(always)]
    fn quoted(packet: TcPacket, at: usize) -> Result<Parsed<Self>, Stray> {
        let mut parsed = Self::network(packet, at, true)?;
        match parsed.carried {
            protocol::TCP | protocol::UDP | protocol::SCTP => {
                let Some(ports) = packet.read::<[Be16; 2]>(parsed.l4) else { return Err(Stray::NotOurs) };
                [parsed.source_port, parsed.destination_port] = ports;
                parsed.protocol = parsed.carried;
            }
            protocol::AH | protocol::ESP => {
                parsed.protocol = protocol::UDP;
                parsed.source_port = ISAKMP;
                parsed.destination_port = ISAKMP;
            }
            _ => {}
        }
        Ok(parsed)
    }
}

/// Parses the transport header of a packet in TC whose network header was parsed.
#[inline(always)]
pub fn parse_transport<A>(packet: TcPacket, parsed: &mut Parsed<A>) -> Result<(), Stray> {
    transport(packet, parsed.carried, parsed, Stray::NotOurs)
}

/// Reads the transport header of this protocol; `short` is what a packet is whose header is cut off.
#[inline(always)]
fn transport<P: Packet, A>(packet: P, carried: u8, parsed: &mut Parsed<A>, short: Stray) -> Result<(), Stray> {
    match carried {
        protocol::TCP => {
            let is_there = packet.view::<Tcp>(parsed.l4, |h| {
                parsed.source_port = h.source;
                parsed.destination_port = h.destination;
                parsed.flags = h.flags;
            });
            if !is_there {
                return Err(short);
            }
        }
        protocol::UDP => {
            let is_there = packet.view::<Udp>(parsed.l4, |h| {
                parsed.source_port = h.source;
                parsed.destination_port = h.destination;
            });
            if !is_there {
                return Err(short);
            }
        }
        protocol::SCTP => {
            let mut length = Be16::ZERO;
            let is_there = packet.view::<Sctp>(parsed.l4, |h| {
                parsed.source_port = h.source;
                parsed.destination_port = h.destination;
                parsed.flags = h.chunk_type;
                length = h.chunk_length;
            });
            if !is_there {
                return Err(short);
            }
            let further = sctp::second_chunk(parsed.flags, length.get());
            // XDP leaves cookies to TC, which can read what is far inside the packet.
            let second = match (further, packet.in_tc()) {
                (Some(further), Ok(packet)) => second_chunk(packet, parsed.l4, further, parsed.length),
                (Some(_), Err(_)) => return Err(short),
                (None, _) => None,
            };
            parsed.flags = sctp::first(parsed.flags, second);
        }
        protocol::AH | protocol::ESP => {
            parsed.protocol = protocol::UDP;
            parsed.source_port = ISAKMP;
            parsed.destination_port = ISAKMP;
        }
        protocol::ICMP | protocol::ICMPV6 => return Err(Stray::Icmp),
        _ => return Err(Stray::NotOurs),
    }
    Ok(())
}

/// The type of the second chunk of an SCTP packet of `length` bytes, which begins `further` bytes after the first one.
#[inline(always)]
fn second_chunk(packet: TcPacket, l4: usize, further: usize, length: u32) -> Option<u8> {
    let at = l4 + size_of::<Sctp>() - sctp::CHUNK_HEADER + further;
    // A frame may be longer than the packet in it.
    if at + sctp::CHUNK_HEADER > L3 + length as usize {
        return None;
    }
    let mut header = [0; sctp::CHUNK_HEADER];
    if packet.load_bytes(at as u32, &mut header, sctp::CHUNK_HEADER as u32) { Some(header[0]) } else { None }
}

/// Sets the length of an IP packet whose header does not say it: one of BIG TCP, which is to be cut into segments.
#[inline(always)]
fn set_big_length<A>(packet: TcPacket, parsed: &mut Parsed<A>) {
    if packet.segment() != 0 {
        parsed.length = packet.length().wrapping_sub(L3 as u32);
    }
}

/// What both tiers take of an IPv4 header; `protocol` and `l4` are theirs to fill in.
#[inline(always)]
fn parsed4(h: &Ipv4, protocol: u8, l4: usize) -> Parsed<u32> {
    Parsed {
        source: h.source,
        destination: h.destination,
        source_port: Be16::ZERO,
        destination_port: Be16::ZERO,
        protocol,
        carried: h.protocol,
        flags: 0,
        ttl: h.ttl,
        tos: h.tos,
        df: !(h.fragment & fragment::DF).is_zero(),
        length: h.length.get() as u32,
        l4,
    }
}

impl Family for u32 {
    #[inline(always)]
    fn network(packet: TcPacket, at: usize, quoted: bool) -> Result<Parsed<u32>, Stray> {
        if !packet.holds(L3 + 40) && !packet.pull(LINEAR) {
            packet.pull(L3 + 28);
        }
        let Some(h) = packet.read::<Ipv4>(at) else { return Err(Stray::NotOurs) };
        let header = ((h.version_ihl & 15) as usize) * 4;
        if h.version_ihl >> 4 != 4 || header < 20 {
            return Err(Stray::NotOurs);
        }
        let part = if quoted { fragment::OFFSET } else { fragment::MF | fragment::OFFSET };
        if !(h.fragment & part).is_zero() {
            return Err(Stray::Fragment);
        }
        let mut parsed = parsed4(&h, 0, at + header);
        if h.length.is_zero() && at == L3 {
            set_big_length(packet, &mut parsed);
        }
        Ok(parsed)
    }

    #[inline(always)]
    fn network_fast(packet: XdpPacket) -> Option<Parsed<u32>> {
        packet
            .look_with_rest(
                L3,
                #[inline(always)]
                |h: &Ipv4, rest| {
                    let is_whole = (h.fragment & (fragment::MF | fragment::OFFSET)).is_zero();
                    if h.version_ihl == 0x45 && is_whole && h.length.get() as u32 <= rest {
                        Some(parsed4(h, reload(&h.protocol), L3 + 20))
                    } else {
                        None
                    }
                },
            )
            .flatten()
    }
}

/// What both tiers take of an IPv6 header, if it is one; `protocol` is theirs to fill in.
#[inline(always)]
fn parsed6(h: &Ipv6, ends: [[u32; 4]; 2], protocol: u8, l4: usize) -> Option<Parsed<[u32; 4]>> {
    let version = h.version.get();
    if version >> 28 != 6 {
        return None;
    }
    Some(Parsed {
        source: ends[0],
        destination: ends[1],
        source_port: Be16::ZERO,
        destination_port: Be16::ZERO,
        protocol,
        carried: h.next_header,
        flags: 0,
        ttl: h.hop_limit,
        tos: (version >> 20) as u8,
        df: true,
        length: h.payload_length.get() as u32 + 40,
        l4,
    })
}

impl Family for [u32; 4] {
    #[inline(always)]
    fn network(packet: TcPacket, at: usize, quoted: bool) -> Result<Parsed<[u32; 4]>, Stray> {
        if !packet.holds(L3 + 60) && !packet.pull(LINEAR) {
            packet.pull(L3 + 48);
        }
        let Some(h) = packet.read::<Ipv6>(at) else { return Err(Stray::NotOurs) };
        let Some(mut parsed) = parsed6(&h, [h.source, h.destination], 0, at + 40) else { return Err(Stray::NotOurs) };
        if h.payload_length.is_zero() && at == L3 {
            set_big_length(packet, &mut parsed);
        }
        extensions(packet, &mut parsed, quoted)?;
        Ok(parsed)
    }

    #[inline(always)]
    fn network_fast(packet: XdpPacket) -> Option<Parsed<[u32; 4]>> {
        packet
            .look_with_rest(
                L3,
                #[inline(always)]
                |h: &Ipv6, rest| {
                    if h.payload_length.get() as u32 + 40 > rest {
                        return None;
                    }
                    // SAFETY: fields of a header in the packet.
                    let ends = unsafe { [wide::load(&raw const h.source), wide::load(&raw const h.destination)] };
                    let parsed = parsed6(h, ends, reload(&h.next_header), L3 + 40)?;
                    match parsed.carried {
                        protocol::HOP_BY_HOP | protocol::ROUTING | protocol::FRAGMENT | protocol::DESTINATION => None,
                        _ => Some(parsed),
                    }
                },
            )
            .flatten()
    }
}

/// Walks past IPv6 extension headers (RFC 8200 §4) to the transport header.
#[inline(always)]
fn extensions(packet: TcPacket, parsed: &mut Parsed<[u32; 4]>, quoted: bool) -> Result<(), Stray> {
    for _ in 0..EXTENSIONS {
        let at = parsed.l4 & EXTENSION_OFFSETS;
        match parsed.carried {
            protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION => {
                let Some([next, length]) = packet.read::<[u8; 2]>(at) else { return Err(Stray::NotOurs) };
                parsed.carried = next;
                parsed.l4 = at + (length as usize + 1) * 8;
            }
            protocol::FRAGMENT => {
                let Some(h) = packet.read::<Ipv6Fragment>(at) else { return Err(Stray::NotOurs) };
                // An atomic fragment (RFC 6946) is a whole packet.
                let part = if quoted { FRAGMENT_OFFSET } else { Be16::from_word(u16::MAX) };
                if !(h.offset & part).is_zero() {
                    return Err(Stray::Fragment);
                }
                parsed.carried = h.next_header;
                parsed.l4 = at + 8;
            }
            _ => break,
        }
    }
    parsed.l4 &= OFFSETS;
    Ok(())
}
