//! The headers of a frame, from the outside to the inside, tunnels included.

use std::net::IpAddr;

use etherparse::{IpNumber, Ipv6ExtensionSlice, LaxIpSlice};

/// Where the network header is.
const NETWORK: usize = 14;

/// What a header is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "names of protocols")]
pub enum Kind {
    Ipv4,
    Ipv6,
    /// IPv6's fragment header.
    Fragment,
    Tcp,
    Udp,
    Sctp,
    Gre,
    Icmp,
    Icmpv6,
}

/// A header of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// What it is.
    pub kind: Kind,
    /// Where it begins.
    pub at: usize,
    /// Where the IP packet that it belongs to ends.
    pub end: usize,
    /// Whether all that it covers is there: neither cut off nor in another fragment.
    pub whole: bool,
    /// Source and destination of the IP packet that it belongs to.
    pub ends: (IpAddr, IpAddr),
}

/// The headers of a frame up to where it makes no sense any more; UDP to one of `gue_ports` is a tunnel.
pub fn headers(frame: &[u8], gue_ports: &[u16]) -> Vec<Header> {
    let mut walk = Walk { frame, gue_ports, found: Vec::new() };
    walk.network(NETWORK, true);
    walk.found
}

struct Walk<'a> {
    frame: &'a [u8],
    gue_ports: &'a [u16],
    found: Vec<Header>,
}

impl Walk<'_> {
    /// An IP header at `at`, inside a packet that is `whole`.
    fn network(&mut self, at: usize, whole: bool) {
        let frame = self.frame;
        let Some(Ok((packet, _))) = frame.get(at..).map(LaxIpSlice::from_slice) else { return };
        let payload = packet.payload();
        let whole = whole && !payload.incomplete;
        let ends = (packet.source_addr(), packet.destination_addr());
        let (kind, length, fragment, offset) = match &packet {
            LaxIpSlice::Ipv4(packet) => {
                let header = packet.header();
                (Kind::Ipv4, header.slice().len(), false, header.fragments_offset().value())
            }
            LaxIpSlice::Ipv6(packet) => {
                let extensions = packet.extensions();
                let offset = extensions.clone().into_iter().find_map(|extension| match extension {
                    Ipv6ExtensionSlice::Fragment(header) => Some(header.fragment_offset().value()),
                    _ => None,
                });
                (Kind::Ipv6, 40 + extensions.slice().len(), offset.is_some(), offset.unwrap_or(0))
            }
        };
        let transport = at + length;
        let header = Header { kind, at, end: transport + payload.payload.len(), whole, ends };
        self.found.push(header);
        if fragment {
            self.found.push(Header { kind: Kind::Fragment, at: at + 40, ..header });
        }
        if offset == 0 {
            let whole = whole && !payload.fragmented;
            self.transport(payload.ip_number, Header { at: transport, whole, ..header });
        }
    }

    /// What follows an IP header; `place` says where.
    fn transport(&mut self, protocol: IpNumber, place: Header) {
        let Header { at, whole, .. } = place;
        let kind = match protocol {
            IpNumber::IPV4 | IpNumber::IPV6 => return self.network(at, whole),
            IpNumber::TCP => Kind::Tcp,
            IpNumber::UDP => Kind::Udp,
            IpNumber::SCTP => Kind::Sctp,
            IpNumber::GRE => Kind::Gre,
            IpNumber::ICMP => Kind::Icmp,
            IpNumber::IPV6_ICMP => Kind::Icmpv6,
            _ => return,
        };
        self.found.push(Header { kind, ..place });
        let frame = self.frame;
        match kind {
            Kind::Gre => self.network(at + if has_gre_checksum(frame, at) { 8 } else { 4 }, whole),
            Kind::Udp if word(frame, at + 2).is_some_and(|port| self.gue_ports.contains(&port)) => {
                let options = frame.get(at + 8).map_or(0, |lengths| usize::from(lengths & 31) * 4);
                self.network(at + 12 + options, whole);
            }
            _ => {}
        }
    }
}

/// Whether a GRE header has a checksum.
pub fn has_gre_checksum(frame: &[u8], at: usize) -> bool {
    frame.get(at).is_some_and(|flags| flags & 0x80 != 0)
}

/// Two bytes of a frame.
pub fn word(frame: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?))
}
