//! Headers as they stand in a packet.
//!
//! Numbers are [`Be16`] and [`Be32`], addresses and checksums words of memory. Every field is as wide as what it holds: the
//! BPF target reads a byte array byte by byte, which costs the fast path more than everything else it does with a header. Hence
//! these are not `network-types`' structs, whose fields are byte arrays; its numbers are used. Packets begin 14 bytes after an
//! aligned address at best, so the structs are `packed(2)`.

use crate::{
    byte_order::{Be16, Be32},
    checksum,
};

/// EtherTypes.
pub mod ethertype {
    use crate::byte_order::Be16;
    use network_types::eth::EtherType;

    /// IPv4.
    pub const IPV4: Be16 = Be16::from_word(EtherType::Ipv4 as u16);
    /// IPv6.
    pub const IPV6: Be16 = Be16::from_word(EtherType::Ipv6 as u16);
    /// A VLAN's tag (IEEE 802.1Q), after which the type of what is carried stands.
    pub const VLAN: Be16 = Be16::from_word(EtherType::Ieee8021q as u16);
}

/// IP protocol numbers.
#[allow(missing_docs, reason = "the names are the protocols'")]
pub mod protocol {
    use network_types::ip::IpProto;

    pub const HOP_BY_HOP: u8 = IpProto::HopOpt as u8;
    pub const ICMP: u8 = IpProto::Icmp as u8;
    pub const IPIP: u8 = IpProto::Ipv4 as u8;
    pub const TCP: u8 = IpProto::Tcp as u8;
    pub const UDP: u8 = IpProto::Udp as u8;
    pub const IPV6: u8 = IpProto::Ipv6 as u8;
    pub const ROUTING: u8 = IpProto::Ipv6Route as u8;
    pub const FRAGMENT: u8 = IpProto::Ipv6Frag as u8;
    pub const GRE: u8 = IpProto::Gre as u8;
    pub const ESP: u8 = IpProto::Esp as u8;
    pub const AH: u8 = IpProto::Ah as u8;
    pub const ICMPV6: u8 = IpProto::Ipv6Icmp as u8;
    pub const DESTINATION: u8 = IpProto::Ipv6Opts as u8;
    pub const SCTP: u8 = IpProto::Sctp as u8;
}

/// First byte of a VXLAN header whose VNI is valid (RFC 7348). The next three are 0.
pub const VXLAN_VNI: u8 = network_types::vxlan::VXLAN_I_FLAG_MASK;

/// Ethernet header.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, packed(2))]
#[allow(missing_docs, reason = "RFC 894")]
pub struct Ethernet {
    pub destination: [u8; 6],
    pub source: [u8; 6],
    pub ethertype: Be16,
}

/// IPv4 header without options (RFC 791).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, packed(2))]
#[allow(missing_docs, reason = "RFC 791")]
pub struct Ipv4 {
    pub version_ihl: u8,
    pub tos: u8,
    pub length: Be16,
    pub id: Be16,
    /// Flags and fragment offset.
    pub fragment: Be16,
    pub ttl: u8,
    pub protocol: u8,
    pub check: u16,
    pub source: u32,
    pub destination: u32,
}

impl Ipv4 {
    /// The header with its checksum, which is none of what it is made from.
    #[inline(always)]
    pub const fn sealed(self) -> Self {
        let sum = u16::from_ne_bytes([self.version_ihl, self.tos]) as u64
            + self.length.word() as u64
            + self.id.word() as u64
            + self.fragment.word() as u64
            + u16::from_ne_bytes([self.ttl, self.protocol]) as u64
            + self.source as u64
            + self.destination as u64;
        Ipv4 { check: !checksum::fold(sum), ..self }
    }
}

/// The value of a header's length field: 0 for a packet of BIG TCP, whose length no field holds.
#[inline(always)]
pub const fn length_field(length: u32) -> Be16 {
    if length > u16::MAX as u32 { Be16::ZERO } else { Be16::new(length as u16) }
}

/// Bits of [`Ipv4::fragment`].
pub mod fragment {
    use crate::byte_order::Be16;

    /// Don't fragment.
    pub const DF: Be16 = Be16::new(0x4000);
    /// More fragments.
    pub const MF: Be16 = Be16::new(0x2000);
    /// Offset in units of eight bytes.
    pub const OFFSET: Be16 = Be16::new(0x1fff);
}

/// IPv6 header (RFC 8200).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, packed(2))]
#[allow(missing_docs, reason = "RFC 8200")]
pub struct Ipv6 {
    /// Version, traffic class, flow label.
    pub version: Be32,
    pub payload_length: Be16,
    pub next_header: u8,
    pub hop_limit: u8,
    pub source: [u32; 4],
    pub destination: [u32; 4],
}

/// IPv6 fragment header (RFC 8200 §4.5).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, packed(2))]
#[allow(missing_docs, reason = "RFC 8200")]
pub struct Ipv6Fragment {
    pub next_header: u8,
    pub reserved: u8,
    /// Offset in the upper 13 bits, more-fragments in the lowest.
    pub offset: Be16,
    pub id: Be32,
}

/// TCP header without options (RFC 9293).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, packed(2))]
#[allow(missing_docs, reason = "RFC 9293")]
pub struct Tcp {
    pub source: Be16,
    pub destination: Be16,
    pub sequence: Be32,
    pub acknowledgment: Be32,
    /// Data offset (upper four bits of the first byte) and flags (second byte).
    pub offset: u8,
    pub flags: u8,
    pub window: Be16,
    pub check: u16,
    pub urgent: Be16,
}

/// Bits of [`Tcp::flags`].
#[allow(missing_docs, reason = "the names are TCP's")]
pub mod tcp_flags {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const ACK: u8 = 0x10;
}

/// UDP header (RFC 768).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, packed(2))]
#[allow(missing_docs, reason = "RFC 768")]
pub struct Udp {
    pub source: Be16,
    pub destination: Be16,
    pub length: Be16,
    pub check: u16,
}

/// SCTP common header and the head of its first chunk (RFC 9260).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, packed(2))]
#[allow(missing_docs, reason = "RFC 9260")]
pub struct Sctp {
    pub source: Be16,
    pub destination: Be16,
    pub tag: Be32,
    /// CRC32c, little endian.
    pub check: u32,
    pub chunk_type: u8,
    pub chunk_flags: u8,
    pub chunk_length: Be16,
}

/// ICMP and ICMPv6 header (RFC 792, 4443).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, packed(2))]
#[allow(missing_docs, reason = "RFC 792, RFC 4443")]
pub struct Icmp {
    pub kind: u8,
    pub code: u8,
    pub check: u16,
    pub rest: Be32,
}

/// Types and codes of ICMP and ICMPv6 that the data plane reads or sends. `network-types` lacks those that stand as numbers.
#[allow(missing_docs, reason = "the names are the RFCs'")]
pub mod icmp {
    use network_types::icmp::{Icmpv4Type, Icmpv6Type};

    pub const UNREACHABLE: u8 = Icmpv4Type::DestinationUnreachable as u8;
    pub const SOURCE_QUENCH: u8 = 4;
    pub const TIME_EXCEEDED: u8 = 11;
    pub const CODE_HOST: u8 = 1;
    pub const CODE_PORT: u8 = 3;
    pub const CODE_FRAGMENTATION_NEEDED: u8 = 4;
    pub const V6_UNREACHABLE: u8 = 1;
    pub const V6_TOO_BIG: u8 = Icmpv6Type::PacketTooBig as u8;
    pub const V6_TIME_EXCEEDED: u8 = 3;
    pub const V6_PARAMETER: u8 = Icmpv6Type::ParameterProblem as u8;
    pub const V6_CODE_ADDRESS: u8 = 3;
    pub const V6_CODE_PORT: u8 = 4;
}

const _: () = assert!(size_of::<Ethernet>() == 14);
const _: () = assert!(size_of::<Ipv4>() == 20);
const _: () = assert!(size_of::<Ipv6>() == 40);
const _: () = assert!(size_of::<Tcp>() == 20);
const _: () = assert!(size_of::<Sctp>() == 16);
