//! The packets of questions and answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::checksum::Sum16BitWords;
use etherparse::{IpNumber, Ipv4Header, Ipv6Header, PacketBuilder, PacketBuilderStep};
use lvs_common::abi::tunnel::{CSUM, TunnelKind};
use lvs_common::wire::protocol;
use lvs_director::rules::Tunnel;

/// Hops that a question may take.
const HOPS: u8 = 64;
/// Neighbour discovery's messages have come from the link if their hop limit is this one (RFC 4861).
const LINK: u8 = 255;
/// Types of ICMPv6.
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Window that a request for a connection offers.
const WINDOW: u16 = 1024;

/// A tunnel and its ends.
#[derive(Clone, Copy, Debug)]
pub struct Tunnelled {
    /// The director's end.
    pub from: IpAddr,
    /// The real server.
    pub to: IpAddr,
    /// The tunnel.
    pub tunnel: Tunnel,
}

/// The IP header of a packet. Both ends are of one family.
fn ip(from: IpAddr, to: IpAddr, hops: u8) -> Option<PacketBuilderStep<etherparse::IpHeaders>> {
    let headers = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = Ipv4Header {
                time_to_live: hops,
                source: from.octets(),
                destination: to.octets(),
                ..Ipv4Header::default()
            };
            header.dont_fragment = true;
            etherparse::IpHeaders::Ipv4(header, Default::default())
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let header = Ipv6Header {
                hop_limit: hops,
                source: from.octets(),
                destination: to.octets(),
                ..Ipv6Header::default()
            };
            etherparse::IpHeaders::Ipv6(header, Default::default())
        }
        _ => return None,
    };
    Some(PacketBuilder::ip(headers))
}

/// A payload that brings a packet to a size.
fn padding(headers: usize, size: usize) -> Vec<u8> {
    vec![0; size.saturating_sub(headers)]
}

/// A ping.
pub fn echo(from: IpAddr, to: IpAddr, (id, number): (u16, u16), size: usize) -> Option<Vec<u8>> {
    let builder = ip(from, to, HOPS)?;
    let mut packet = Vec::new();
    let written = if to.is_ipv4() {
        let builder = builder.icmpv4_echo_request(id, number);
        let payload = padding(builder.size(0), size);
        builder.write(&mut packet, &payload)
    } else {
        let builder = builder.icmpv6_echo_request(id, number);
        let payload = padding(builder.size(0), size);
        builder.write(&mut packet, &payload)
    };
    written.ok().map(|()| packet)
}

/// A request for a connection.
pub fn syn(from: (IpAddr, u16), to: (IpAddr, u16), sequence: u32, size: usize) -> Option<Vec<u8>> {
    let builder = ip(from.0, to.0, HOPS)?.tcp(from.1, to.1, sequence, WINDOW).syn();
    let (payload, mut packet) = (padding(builder.size(0), size), Vec::new());
    builder.write(&mut packet, &payload).ok().map(|()| packet)
}

/// Takes a request for a connection back that was answered.
pub fn reset(from: (IpAddr, u16), to: (IpAddr, u16), sequence: u32) -> Option<Vec<u8>> {
    let builder = ip(from.0, to.0, HOPS)?.tcp(from.1, to.1, sequence, 0).rst();
    let mut packet = Vec::new();
    builder.write(&mut packet, &[]).ok().map(|()| packet)
}

/// A packet in a tunnel, as the data plane puts it there.
pub fn tunnelled(ends: &Tunnelled, inner: &[u8]) -> Option<Vec<u8>> {
    let is_v4 = inner.first()? >> 4 == 4;
    let carried = TunnelKind::carried(ends.tunnel.kind, is_v4);
    let (inner_protocol, ether_type) =
        if is_v4 { (protocol::IPIP, [0x08, 0x00]) } else { (protocol::IPV6, [0x86, 0xdd]) };
    let ip = ip(ends.from, ends.to, HOPS)?;
    let mut packet = Vec::new();
    match ends.tunnel.kind {
        TunnelKind::GRE if ends.tunnel.flags & CSUM != 0 => {
            let mut payload = [&[0x80, 0], &ether_type[..], &[0; 4], inner].concat();
            let sum = Sum16BitWords::new().add_slice(&payload).ones_complement();
            payload[4..6].copy_from_slice(&sum.to_ne_bytes());
            ip.write(&mut packet, IpNumber(carried), &payload).ok()?;
        }
        TunnelKind::GRE => {
            ip.write(&mut packet, IpNumber(carried), &[&[0, 0], &ether_type[..], inner].concat()).ok()?;
        }
        TunnelKind::GUE => {
            let payload = [&[0, inner_protocol, 0, 0], inner].concat();
            ip.udp(ends.tunnel.port, ends.tunnel.port).write(&mut packet, &payload).ok()?;
        }
        TunnelKind::VXLAN => {
            let header = [0x08, 0, 0, 0, 0, 0, 0, 0];
            let frame = [[0x02, 0, 0, 0, 0, 1], [0x02, 0, 0, 0, 0, 2]].concat();
            let payload = [&header[..], &frame, &ether_type, inner].concat();
            ip.udp(ends.tunnel.port, ends.tunnel.port).write(&mut packet, &payload).ok()?;
        }
        _ => ip.write(&mut packet, IpNumber(carried), inner).ok()?,
    }
    Some(packet)
}

/// Asks by ARP who has an address (RFC 826). From nobody's address, nobody takes note of the asker.
pub fn arp_request(mac: [u8; 6], from: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    [&[0, 1, 0x08, 0, 6, 4, 0, 1][..], &mac, &from.octets(), &[0; 6], &target.octets()].concat()
}

/// Who an ARP message says has which address.
pub fn arp_answer(packet: &[u8]) -> Option<(Ipv4Addr, [u8; 6])> {
    let is_reply = packet.get(..8)? == [0, 1, 0x08, 0, 6, 4, 0, 2];
    let (mac, address): ([u8; 6], [u8; 4]) =
        (packet.get(8..14)?.try_into().ok()?, packet.get(14..18)?.try_into().ok()?);
    is_reply.then_some((address.into(), mac))
}

/// The group in which the host that has an address listens, and the MAC address of the group (RFC 4291, RFC 2464).
pub fn solicited(target: Ipv6Addr) -> (Ipv6Addr, [u8; 6]) {
    let [.., a, b, c] = target.octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
    (group, [0x33, 0x33, 0xff, a, b, c])
}

/// Asks by neighbour discovery who has an address (RFC 4861).
pub fn solicitation(mac: [u8; 6], from: Ipv6Addr, target: Ipv6Addr) -> Option<Vec<u8>> {
    let builder = ip(from.into(), solicited(target).0.into(), LINK)?.icmpv6_raw(SOLICITATION, 0, [0; 4]);
    let option = [&[1, 1][..], &mac].concat();
    let mut packet = Vec::new();
    builder.write(&mut packet, &[&target.octets()[..], &option].concat()).ok().map(|()| packet)
}

/// The address that an advertisement is about; whose it is says the option of the target's address, if there is one.
pub fn advertised(packet: &[u8]) -> Option<(Ipv6Addr, Option<[u8; 6]>)> {
    if *packet.get(6)? != protocol::ICMPV6 || *packet.get(40)? != ADVERTISEMENT {
        return None;
    }
    let target: [u8; 16] = packet.get(48..64)?.try_into().ok()?;
    let mac = packet.get(64..72).filter(|option| option[..2] == [2, 1]).and_then(|option| option[2..].try_into().ok());
    Some((target.into(), mac))
}

/// An answer to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To a ping of this number.
    Echo(u16),
    /// A connection is accepted: what it acknowledges.
    Accepted(u32),
    /// A connection is refused: what that acknowledges.
    Refused(u32),
}

/// Reads an answer and whom it is from: `id` is that of pings and the port of requests.
pub fn reply(packet: &[u8], id: u16) -> Option<(IpAddr, Reply)> {
    let word = |at: usize| Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?));
    let (from, protocol, at) = match packet.first()? >> 4 {
        4 => {
            let from: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
            (IpAddr::from(from), packet[9], usize::from(packet[0] & 15) * 4)
        }
        6 => {
            let from: [u8; 16] = packet.get(8..24)?.try_into().ok()?;
            (IpAddr::from(from), packet[6], 40)
        }
        _ => return None,
    };
    let reply = match (protocol, packet.get(at)?) {
        (protocol::ICMP, 0) | (protocol::ICMPV6, 129) if word(at + 4)? == id => Reply::Echo(word(at + 6)?),
        (protocol::TCP, _) if word(at + 2)? == id => {
            let acknowledged = u32::from(word(at + 8)?) << 16 | u32::from(word(at + 10)?);
            match packet.get(at + 13)? & 0x16 {
                0x12 => Reply::Accepted(acknowledged),
                0x14 => Reply::Refused(acknowledged),
                _ => return None,
            }
        }
        _ => return None,
    };
    Some((from, reply))
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    use super::*;

    fn ends(v6: bool) -> (IpAddr, IpAddr) {
        let of = |v4: &str, other: &str| if v6 { other } else { v4 }.parse().unwrap();
        (of("192.0.2.1", "2001:db8::1"), of("192.0.2.2", "2001:db8::2"))
    }

    #[test]
    fn questions_are_of_the_size_asked_for_and_read_as_what_they_are() {
        for v6 in [false, true] {
            let (from, to) = ends(v6);
            for (packet, size) in [
                (echo(from, to, (7, 9), 1400), 1400),
                (syn((from, 5000), (to, 80), 3 << 16, 1280), 1280),
                (reset((from, 5000), (to, 80), 4), if v6 { 60 } else { 40 }),
            ] {
                let packet = packet.unwrap();
                assert_eq!(packet.len(), size);
                let sliced = SlicedPacket::from_ip(&packet).unwrap();
                assert!(sliced.transport.is_some());
            }
        }
        assert_eq!(echo(ends(false).0, ends(true).1, (1, 1), 0), None);
    }

    #[test]
    fn tunnels_add_what_the_data_plane_adds() {
        for v6 in [false, true] {
            let (from, to) = ends(v6);
            let inner = echo(ends(!v6).0, ends(!v6).1, (1, 1), 100).unwrap();
            for (kind, flags) in [
                (TunnelKind::IPIP, 0),
                (TunnelKind::GRE, 0),
                (TunnelKind::GRE, CSUM),
                (TunnelKind::GUE, 0),
                (TunnelKind::VXLAN, 0),
            ] {
                let packet =
                    tunnelled(&Tunnelled { from, to, tunnel: Tunnel { kind, port: 6080, flags } }, &inner).unwrap();
                let added = TunnelKind::header(kind, flags) as usize + if v6 { 40 } else { 20 };
                assert_eq!(packet.len(), 100 + added, "{kind:?}");
                assert!(packet.ends_with(&inner));
                let sliced = SlicedPacket::from_ip(&packet).unwrap();
                assert!(matches!(sliced.net, Some(NetSlice::Ipv4(_) | NetSlice::Ipv6(_))));
                let is_udp = matches!(sliced.transport, Some(TransportSlice::Udp(_)));
                assert_eq!(is_udp, matches!(kind, TunnelKind::GUE | TunnelKind::VXLAN));
            }
        }
    }

    #[test]
    fn answers_are_read_and_nothing_else_is() {
        for v6 in [false, true] {
            let (from, to) = ends(v6);
            let mut packet = Vec::new();
            ip(from, to, HOPS).unwrap().tcp(80, 5000, 9, 1).syn().ack(7).write(&mut packet, &[]).unwrap();
            assert_eq!(reply(&packet, 5000), Some((from, Reply::Accepted(7))));
            assert_eq!(reply(&packet, 5001), None);
            packet.clear();
            ip(from, to, HOPS).unwrap().tcp(80, 5000, 9, 1).rst().ack(7).write(&mut packet, &[]).unwrap();
            assert_eq!(reply(&packet, 5000), Some((from, Reply::Refused(7))));
            for length in 0..packet.len() {
                reply(&packet[..length], 5000);
            }
            assert_eq!(reply(&echo(from, to, (5000, 3), 0).unwrap(), 5000), None, "a question");
        }
        let mut packet = Vec::new();
        ip(ends(false).0, ends(false).1, HOPS).unwrap().icmpv4_echo_reply(5000, 3).write(&mut packet, &[]).unwrap();
        assert_eq!(reply(&packet, 5000), Some((ends(false).0, Reply::Echo(3))));
    }

    #[test]
    fn neighbours_answers_are_read() {
        let (mac, address) = ([2, 0, 0, 0, 0, 7], Ipv4Addr::new(192, 0, 2, 7));
        let request = arp_request(mac, Ipv4Addr::UNSPECIFIED, address);
        assert_eq!((request.len(), arp_answer(&request)), (28, None));
        let mut answer = arp_request(mac, address, Ipv4Addr::new(192, 0, 2, 1));
        answer[7] = 2;
        assert_eq!(arp_answer(&answer), Some((address, mac)));
        let target: Ipv6Addr = "2001:db8::7".parse().unwrap();
        let mut packet = solicitation(mac, "fe80::1".parse().unwrap(), target).unwrap();
        assert_eq!(advertised(&packet), None);
        (packet[40], packet[64]) = (ADVERTISEMENT, 2);
        assert_eq!(advertised(&packet), Some((target, Some(mac))));
        assert_eq!(solicited(target).1, [0x33, 0x33, 0xff, 0, 0, 7]);
    }
}
