//! Reading a fragment. TC only.

use lvs_common::{
    abi::{Address, IpAddress},
    byte_order::Be16,
    fragments::{HEADERS, Part},
    wire::{Ipv4, Ipv6, Ipv6Fragment, fragment, protocol},
};

use crate::{
    packet::access::{Packet, TcPacket},
    values::{
        fragment::Key,
        parsed::{L3, Parsed},
    },
};

/// Extension headers in front of a fragment header that are walked past at most.
const EXTENSIONS: usize = 4;

/// A fragment.
pub struct Fragment {
    pub key: Key,
    pub part: Part,
    /// Offset of its payload in the frame.
    pub at: u32,
    /// Bytes of IP packet.
    pub size: u32,
    /// IPv6: offset in the frame of the byte that announces the fragment header.
    pub link: u32,
    ttl: u8,
    tos: u8,
    df: bool,
}

impl Fragment {
    /// Reads a fragment; `None` for what is left to the stack.
    #[inline(always)]
    pub fn read<A: IpAddress>(packet: TcPacket) -> Option<Self> {
        let fragment = if A::IS_V4 { Self::read4(packet) } else { Self::read6(packet) }?;
        (fragment.at <= HEADERS as u32).then_some(fragment)
    }

    #[inline(always)]
    fn read4(packet: TcPacket) -> Option<Self> {
        let h = packet.read::<Ipv4>(L3)?;
        let header = (h.version_ihl & 15) as u32 * 4;
        let (field, size) = (h.fragment.get(), h.length.get() as u32);
        Some(Fragment {
            key: Key {
                source: h.source.widen(),
                destination: h.destination.widen(),
                id: h.id.word() as u32,
                protocol: h.protocol as u32,
            },
            part: Part {
                offset: (field & 0x1fff) as u32 * 8,
                length: size.wrapping_sub(header),
                more: !(h.fragment & fragment::MF).is_zero(),
            },
            at: L3 as u32 + header,
            size,
            link: 0,
            ttl: h.ttl,
            tos: h.tos,
            df: !(h.fragment & fragment::DF).is_zero(),
        })
    }

    #[inline(always)]
    fn read6(packet: TcPacket) -> Option<Self> {
        let h = packet.read::<Ipv6>(L3)?;
        let (mut next, mut link, mut at) = (h.next_header, L3 + 6, L3 + 40);
        for _ in 0..EXTENSIONS {
            if !matches!(next, protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION) {
                break;
            }
            let [following, length] = packet.read::<[u8; 2]>(at)?;
            link = at;
            at = (at + (length as usize + 1) * 8) & (2 * HEADERS - 1);
            next = following;
        }
        if next != protocol::FRAGMENT {
            return None;
        }
        let f = packet.read::<Ipv6Fragment>(at)?;
        let (field, size) = (f.offset.get(), h.payload_length.get() as u32 + 40);
        let at = at as u32 + 8;
        Some(Fragment {
            key: Key {
                source: Address(h.source),
                destination: Address(h.destination),
                id: f.id.word(),
                protocol: f.next_header as u32,
            },
            part: Part {
                offset: (field & 0xfff8) as u32,
                length: (size + L3 as u32).wrapping_sub(at),
                more: field & 1 != 0,
            },
            at,
            size,
            link: link as u32,
            ttl: h.hop_limit,
            tos: (h.version.get() >> 20) as u8,
            df: true,
        })
    }

    /// Whether the frame has all of it, and there can be such a fragment.
    #[inline(always)]
    pub fn is_sound(&self, packet: TcPacket) -> bool {
        self.part.is_sound() && self.at.wrapping_add(self.part.length) <= packet.length()
    }

    /// What a fragment other than the first one is, of a packet with these ports. Its length is that of its payload, which the
    /// packet is longer by.
    #[inline(always)]
    pub fn later<A: IpAddress>(&self, [source_port, destination_port]: [Be16; 2]) -> Parsed<A> {
        let carried = self.key.protocol as u8;
        Parsed {
            source: A::narrow(self.key.source),
            destination: A::narrow(self.key.destination),
            source_port,
            destination_port,
            protocol: match carried {
                protocol::AH | protocol::ESP => protocol::UDP,
                carried => carried,
            },
            carried: protocol::FRAGMENT,
            flags: 0,
            ttl: self.ttl,
            tos: self.tos,
            df: self.df,
            length: self.part.length,
            l4: self.at as usize,
        }
    }
}
