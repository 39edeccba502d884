//! What a packet is, once it has been parsed.

use lvs_common::byte_order::Be16;
use lvs_common::{
    abi::IpAddress,
    state::sctp,
    wire::{protocol, tcp_flags},
};

use crate::link;

/// Offset of the network header.
pub const L3: usize = link::HEADER;

/// Offsets that a transport header can begin at: what bounds them for the verifier.
pub const OFFSETS: usize = 0xfff;

/// What the pipeline needs to know of a packet of family `A`. Addresses in network order.
///
/// The addresses do not stand first: in a `Result`, the error's byte takes the place of the first field, and LLVM would copy that
/// field byte by byte.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Parsed<A> {
    /// Protocol of the connection: that of the packet, but UDP for AH and ESP.
    pub protocol: u8,
    /// Protocol of the packet; [`protocol::FRAGMENT`] for a fragment other than the first one.
    pub carried: u8,
    /// TCP flags; the first chunk's type for SCTP.
    pub flags: u8,
    pub ttl: u8,
    pub source_port: Be16,
    pub destination_port: Be16,
    /// IPv4 TOS or IPv6 traffic class.
    pub tos: u8,
    /// IPv4: may not be fragmented.
    pub df: bool,
    /// Bytes of the IP packet.
    pub length: u32,
    pub source: A,
    pub destination: A,
    /// Offset of the transport header in the frame; see [`Parsed::l4`].
    pub l4: usize,
}

impl<A> Parsed<A> {
    /// Offset of the transport header in the frame.
    #[inline(always)]
    pub fn l4(&self) -> usize {
        self.l4 & OFFSETS
    }

    /// Whether the packet asks for a new connection: TCP SYN, SCTP INIT.
    #[inline(always)]
    pub fn opens(&self) -> bool {
        match self.protocol {
            protocol::TCP => self.flags & tcp_flags::SYN != 0,
            protocol::SCTP => self.flags == sctp::chunk::INIT,
            _ => false,
        }
    }

    /// The packet with `more` bytes put in front of its transport header.
    #[inline(always)]
    pub fn deepened(self, more: usize) -> Self {
        Parsed { length: self.length + more as u32, l4: self.l4 + more, ..self }
    }

    /// The packet as one that travels the other way.
    #[inline(always)]
    pub fn reversed(self) -> Self {
        Parsed {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            ..self
        }
    }

    /// The packet as one of the other family that has no addresses yet, and may be fragmented.
    #[inline(always)]
    pub fn crossed<B: IpAddress>(&self) -> Parsed<B> {
        Parsed {
            source: B::default(),
            destination: B::default(),
            source_port: self.source_port,
            destination_port: self.destination_port,
            protocol: self.protocol,
            carried: self.carried,
            flags: self.flags,
            ttl: self.ttl,
            tos: self.tos,
            df: false,
            length: self.length.wrapping_sub((self.l4() - L3) as u32).wrapping_add(B::HEADER as u32),
            l4: L3 + B::HEADER,
        }
    }

    /// Whether it is a fragment other than the first one, which has no transport header.
    #[inline(always)]
    pub fn is_later_fragment(&self) -> bool {
        self.carried == protocol::FRAGMENT
    }

    /// Whether the packet has ports of its own to rewrite.
    #[inline(always)]
    pub fn has_ports(&self) -> bool {
        self.carried == self.protocol
    }
}

/// Why a packet takes no part in the pipeline.
pub enum Stray {
    /// Not of a protocol that is balanced.
    NotOurs,
    /// Needs something this tier or stage does not do: options or extension headers in XDP, say.
    Complicated,
    /// A fragment.
    Fragment,
    /// ICMP.
    Icmp,
}
