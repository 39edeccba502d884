//! First stage: what a packet is.

use crate::values::parsed::OFFSETS;
use crate::values::parsed::Parsed;
use crate::values::parsed::Stray;
use lvs_common::{
    abi::IpAddress,
    wire::{Ipv4, Ipv6, Ipv6Fragment, Sctp, Tcp, Udp, fragment, protocol},
};

use crate::{
    kernel::cpu,
    maps::{FOUND4, FOUND6},
    packet::access::Packet,
    values::parsed::L3,
};

/// ISAKMP's port: AH and ESP packets follow the connection of their key exchange.
const ISAKMP: u16 = 500u16.to_be();

/// An address family as the data plane sees it.
pub trait Family: IpAddress {
    /// Reads the network header at `at`. A packet that is `quoted`, in an ICMP error, may be a first fragment.
    fn network<P: Packet>(packet: P, at: usize, quoted: bool) -> Result<Parsed<Self>, Stray>;

    /// Reads a packet whose network header is of this family.
    #[inline(always)]
    fn parse<P: Packet>(packet: P) -> Result<Parsed<Self>, Stray> {
        let mut parsed = Self::network(packet, L3, false)?;
        transport(packet, &mut parsed)?;
        Ok(parsed)
    }

    /// Reads a packet quoted at `at`. Its ports are sure to be there but not the rest of its transport header
    /// (RFC 792); `protocol` stays 0 if it is not of a protocol that is balanced.
    #[inline(always)]
    fn quoted<P: Packet>(packet: P, at: usize) -> Result<Parsed<Self>, Stray> {
        let mut parsed = Self::network(packet, at, true)?;
        match parsed.carried {
            protocol::TCP | protocol::UDP | protocol::SCTP => {
                let Some(ports) = packet.at::<[u16; 2]>(parsed.l4) else { return Err(Stray::NotOurs) };
                // SAFETY: checked by `at`.
                unsafe { [parsed.source_port, parsed.destination_port] = *ports }
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

    /// This CPU's place for what was parsed.
    fn place() -> Option<*mut Parsed<Self>>;

    /// Leaves what was parsed to the programs that are jumped to. They read it from memory and not from the packet, so
    /// the verifier need not follow them once for each shape of packet.
    #[inline(always)]
    fn leave(parsed: &Parsed<Self>) -> bool {
        let Some(place) = Self::place() else { return false };
        // SAFETY: this CPU's own element; nothing else runs in between.
        unsafe { place.write(*parsed) };
        true
    }

    /// What the program that jumped here left.
    #[inline(always)]
    fn found() -> Option<&'static Parsed<Self>>
    where
        Self: 'static,
    {
        // SAFETY: as above.
        Self::place().map(|place| unsafe { &*place })
    }
}

/// Reads the transport header's part.
#[inline(always)]
fn transport<P: Packet, A>(packet: P, parsed: &mut Parsed<A>) -> Result<(), Stray> {
    let carried = parsed.carried;
    if P::COMPLETE {
        parsed.protocol = carried;
    } else {
        parsed.carried = parsed.protocol;
    }
    let short = if P::COMPLETE { Stray::NotOurs } else { Stray::Complicated };
    match carried {
        protocol::TCP => {
            let Some(h) = packet.at::<Tcp>(parsed.l4) else { return Err(short) };
            // SAFETY: checked by `at`.
            unsafe {
                parsed.source_port = (*h).source;
                parsed.destination_port = (*h).destination;
                parsed.flags = (*h).flags;
            }
        }
        protocol::UDP => {
            let Some(h) = packet.at::<Udp>(parsed.l4) else { return Err(short) };
            // SAFETY: checked by `at`.
            unsafe {
                parsed.source_port = (*h).source;
                parsed.destination_port = (*h).destination;
            }
        }
        protocol::SCTP => {
            let Some(h) = packet.at::<Sctp>(parsed.l4) else { return Err(short) };
            // SAFETY: checked by `at`.
            unsafe {
                parsed.source_port = (*h).source;
                parsed.destination_port = (*h).destination;
                parsed.flags = (*h).chunk_type;
            }
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

/// The protocol, read once more for XDP, where [`transport`] goes on with it: what it has compared is a known number to the
/// verifier, which would follow everything behind once for each protocol. What TC parses is read from memory.
#[inline(always)]
fn read_again<P: Packet>(protocol: &u8) -> u8 {
    // SAFETY: a reference.
    if P::COMPLETE { 0 } else { unsafe { (&raw const *protocol).read_volatile() } }
}

/// Bytes of headers that TC makes linear before it reads: Ethernet, the longest IPv4 header or IPv6 with some
/// extensions, TCP.
const LINEAR: usize = L3 + 60 + 20;

impl Family for u32 {
    #[inline(always)]
    fn place() -> Option<*mut Parsed<u32>> {
        FOUND4.get_ptr_mut(cpu::number())
    }

    #[inline(always)]
    fn network<P: Packet>(packet: P, at: usize, quoted: bool) -> Result<Parsed<u32>, Stray> {
        if P::COMPLETE && packet.at::<[u8; L3 + 40]>(0).is_none() && !packet.pull(LINEAR) {
            packet.pull(L3 + 28);
        }
        let Some(h) = packet.at::<Ipv4>(at) else { return Err(Stray::NotOurs) };
        // SAFETY: checked by `at`.
        let h = unsafe { &*h };
        if h.version_ihl != 0x45 && !P::COMPLETE {
            return Err(Stray::Complicated);
        }
        let header = ((h.version_ihl & 15) as usize) * 4;
        if h.version_ihl >> 4 != 4 || header < 20 {
            return Err(Stray::NotOurs);
        }
        let part = if quoted { fragment::OFFSET } else { fragment::MF | fragment::OFFSET };
        if h.fragment & part != 0 {
            return Err(Stray::Fragment);
        }
        let parsed = Parsed {
            source: h.source,
            destination: h.destination,
            source_port: 0,
            destination_port: 0,
            protocol: read_again::<P>(&h.protocol),
            carried: h.protocol,
            flags: 0,
            ttl: h.ttl,
            tos: h.tos,
            df: h.fragment & fragment::DF != 0,
            length: u16::from_be(h.length) as u32,
            l4: if P::COMPLETE { at + header } else { at + 20 },
        };
        Ok(parsed)
    }
}

impl Family for [u32; 4] {
    #[inline(always)]
    fn place() -> Option<*mut Parsed<[u32; 4]>> {
        FOUND6.get_ptr_mut(cpu::number())
    }

    #[inline(always)]
    fn network<P: Packet>(packet: P, at: usize, quoted: bool) -> Result<Parsed<[u32; 4]>, Stray> {
        if P::COMPLETE && packet.at::<[u8; L3 + 60]>(0).is_none() && !packet.pull(LINEAR) {
            packet.pull(L3 + 48);
        }
        let Some(h) = packet.at::<Ipv6>(at) else { return Err(Stray::NotOurs) };
        // SAFETY: checked by `at`.
        let h = unsafe { &*h };
        let version = u32::from_be(h.version);
        if version >> 28 != 6 {
            return Err(Stray::NotOurs);
        }
        let mut parsed = Parsed {
            source: h.source,
            destination: h.destination,
            source_port: 0,
            destination_port: 0,
            protocol: read_again::<P>(&h.next_header),
            carried: h.next_header,
            flags: 0,
            ttl: h.hop_limit,
            tos: (version >> 20) as u8,
            df: true,
            length: u16::from_be(h.payload_length) as u32 + 40,
            l4: at + 40,
        };
        if P::COMPLETE {
            extensions(packet, &mut parsed, quoted)?;
        } else if matches!(
            parsed.carried,
            protocol::HOP_BY_HOP | protocol::ROUTING | protocol::FRAGMENT | protocol::DESTINATION
        ) {
            return Err(Stray::Complicated);
        }
        Ok(parsed)
    }
}

/// The offset's part of [`Ipv6Fragment::offset`].
const FRAGMENT_OFFSET: u16 = 0xfff8u16.to_be();

/// Extension headers that are walked past at most.
const EXTENSIONS: usize = 6;

/// Walks past IPv6 extension headers (RFC 8200 §4) to the transport header.
#[inline(always)]
fn extensions<P: Packet>(packet: P, parsed: &mut Parsed<[u32; 4]>, quoted: bool) -> Result<(), Stray> {
    for _ in 0..EXTENSIONS {
        match parsed.carried {
            protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION => {
                let Some(h) = packet.at::<[u8; 2]>(parsed.l4 & 0x3ff) else { return Err(Stray::NotOurs) };
                // SAFETY: checked by `at`.
                let [next, length] = unsafe { *h };
                parsed.carried = next;
                parsed.l4 = (parsed.l4 & 0x3ff) + (length as usize + 1) * 8;
            }
            protocol::FRAGMENT => {
                let Some(h) = packet.at::<Ipv6Fragment>(parsed.l4 & 0x3ff) else { return Err(Stray::NotOurs) };
                // SAFETY: checked by `at`.
                let (next, offset) = unsafe { ((*h).next_header, (*h).offset) };
                // An atomic fragment (RFC 6946) is a whole packet.
                let part = if quoted { FRAGMENT_OFFSET } else { u16::MAX };
                if offset & part != 0 {
                    return Err(Stray::Fragment);
                }
                parsed.carried = next;
                parsed.l4 = (parsed.l4 & 0x3ff) + 8;
            }
            _ => break,
        }
    }
    parsed.l4 &= OFFSETS;
    Ok(())
}
