//! Every checksum of some frames, computed anew.

use etherparse::SlicedPacket;
use etherparse::defrag::IpDefragPool;

use super::header::{Header, Kind, has_gre_checksum, headers, word};
use crate::fixtures::frame::{self, ICMPV6, TCP, UDP, crc32c, internet_checksum, pseudo_header};

/// A checksum in one of some frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksum {
    /// Which frame: the last one, if it covers a packet in several fragments.
    pub frame: usize,
    /// The headers down to the one it stands in.
    pub path: String,
    /// Whether it is right.
    pub right: bool,
}

/// All checksums, those over packets in fragments included.
pub fn checksums(frames: &[Vec<u8>], gue_ports: &[u16]) -> Vec<Checksum> {
    let mut pool = IpDefragPool::<(), ()>::new();
    let mut found = Vec::new();
    for (number, frame) in frames.iter().enumerate() {
        let all = headers(frame, gue_ports);
        found.extend(of_frame(number, frame, &all));
        let Ok(sliced) = SlicedPacket::from_ethernet(frame) else { continue };
        let (Some(outer), Ok(Some(payload))) = (all.first(), pool.process_sliced_packet(&sliced, (), ())) else {
            continue;
        };
        let packet = frame::ip(outer.ends.0, outer.ends.1, 0, 64, payload.ip_number.0, &payload.payload);
        let whole = frame::ethernet([0; 6], [0; 6], &packet);
        // The outer header is the fragments', seen before.
        found.extend(of_frame(number, &whole, &headers(&whole, gue_ports)).skip_while(|sum| sum.path == "Ipv4"));
    }
    found
}

fn of_frame(number: usize, frame: &[u8], all: &[Header]) -> impl Iterator<Item = Checksum> {
    let mut path = String::new();
    let sums = all.iter().filter_map(move |header| {
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(&format!("{:?}", header.kind));
        is_right(frame, header).map(|right| Checksum { frame: number, path: path.clone(), right })
    });
    sums.collect::<Vec<_>>().into_iter()
}

/// Whether a header's checksum is right; `None` if it has none, or not all that it covers is there.
fn is_right(frame: &[u8], header: &Header) -> Option<bool> {
    let at = header.at;
    if header.kind == Kind::Ipv4 {
        let length = usize::from(frame[at] & 15) * 4;
        return Some(internet_checksum(frame.get(at..at + length)?) == 0);
    }
    let covered = frame.get(at..header.end).filter(|_| header.whole)?;
    let with_pseudo_header =
        |protocol| internet_checksum(&pseudo_header(header.ends.0, header.ends.1, protocol, covered)) == 0;
    match header.kind {
        Kind::Tcp => Some(with_pseudo_header(TCP)),
        Kind::Icmpv6 => Some(with_pseudo_header(ICMPV6)),
        Kind::Udp => (word(covered, 6)? != 0).then(|| with_pseudo_header(UDP)),
        Kind::Icmp => Some(internet_checksum(covered) == 0),
        Kind::Gre => has_gre_checksum(frame, at).then(|| internet_checksum(covered) == 0),
        Kind::Sctp => {
            let (ports, rest) = (covered.get(..8)?, covered.get(12..)?);
            let sum = crc32c(&[ports, &[0; 4], rest].concat());
            Some(sum.to_le_bytes() == covered[8..12])
        }
        Kind::Ipv4 | Kind::Ipv6 | Kind::Fragment => None,
    }
}
