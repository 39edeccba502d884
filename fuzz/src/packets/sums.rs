//! Checksums as they stand in a frame, and how wrong they are.

use crc32c::{crc32c, crc32c_append};
use lvs_common::wire::protocol;

use crate::packets::frames::{ETHERNET, fold, sum};

/// How wrong the checksums of an IP packet are: 0 is right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wrong {
    /// Of the IPv4 header.
    pub header: u16,
    /// Of what the packet carries; `None` if that has no checksum, or cannot be checked: a fragment, a protocol that is not known.
    pub transport: Option<u32>,
    /// Whether it is a fragment.
    pub is_fragment: bool,
    /// The protocol that it carries.
    pub protocol: u8,
    /// Bytes of the IP packet.
    pub length: usize,
    /// Where in the frame what it carries begins.
    pub at: usize,
}

/// The ones' complement sum of words, with both zeroes as one.
fn folded(sum: u64) -> u16 {
    let sum = fold(sum);
    if sum == 0xffff { 0 } else { sum }
}

/// Reads an IP packet that begins at `at` of a frame; `None` if it is none, or contradicts itself.
pub fn read(frame: &[u8], at: usize) -> Option<Wrong> {
    let ip = frame.get(at..)?;
    let read = match ip.first()? >> 4 {
        4 => read4(ip, at),
        6 => read6(ip, at),
        _ => None,
    }?;
    let told = |at: usize| frame.get(at..at + 2).map(|length| usize::from(u16::from_be_bytes([length[0], length[1]])));
    let carried = at + read.length - read.at;
    let is_sound = read.is_fragment
        || read.protocol != protocol::UDP
        || told(read.at + 4).is_some_and(|told| (8..=carried).contains(&told));
    is_sound.then_some(read)
}

fn read4(ip: &[u8], at: usize) -> Option<Wrong> {
    let header = usize::from(ip[0] & 15) * 4;
    let length = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
    let fragment = u16::from_be_bytes([*ip.get(6)?, *ip.get(7)?]) & 0x3fff;
    if header < 20 || length < header {
        return None;
    }
    let (head, body) = (ip.get(..header)?, ip.get(header..length)?);
    let (is_fragment, carried) = (fragment != 0, head[9]);
    let ends = sum(&head[12..20]);
    let transport = if is_fragment { None } else { transport(body, carried, ends, true) };
    Some(Wrong { header: folded(sum(head)), transport, is_fragment, protocol: carried, length, at: at + header })
}

fn read6(ip: &[u8], at: usize) -> Option<Wrong> {
    let length = usize::from(u16::from_be_bytes([*ip.get(4)?, *ip.get(5)?]));
    let (head, mut body) = (ip.get(..40)?, ip.get(40..40 + length)?);
    let (mut carried, mut is_fragment) = (head[6], false);
    while matches!(carried, protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION | protocol::FRAGMENT) {
        let skipped = if carried == protocol::FRAGMENT {
            is_fragment |= u16::from_be_bytes([*body.get(2)?, *body.get(3)?]) & 0xfff9 != 0;
            8
        } else {
            (usize::from(*body.get(1)?) + 1) * 8
        };
        carried = body[0];
        body = body.get(skipped..)?;
    }
    let transport = if is_fragment { None } else { transport(body, carried, sum(&head[8..40]), false) };
    let begins = at + 40 + length - body.len();
    Some(Wrong { header: 0, transport, is_fragment, protocol: carried, length: 40 + length, at: begins })
}

/// How wrong the checksum of a payload is, whose pseudo header's addresses have this sum.
fn transport(body: &[u8], carried: u8, ends: u64, is_v4: bool) -> Option<u32> {
    let pseudo = ends + u64::from(carried) + body.len() as u64;
    match carried {
        protocol::TCP if body.len() >= 20 => Some(folded(pseudo + sum(body)).into()),
        protocol::UDP => {
            let told = usize::from(u16::from_be_bytes([*body.get(4)?, *body.get(5)?]));
            let datagram = body.get(..told).filter(|datagram| datagram.len() >= 8)?;
            let is_unsummed = datagram[6..8] == [0, 0];
            let pseudo = ends + u64::from(carried) + told as u64;
            (!is_unsummed).then(|| folded(pseudo + sum(datagram)).into())
        }
        protocol::SCTP if body.len() >= 12 => {
            // The CRC is that of a packet whose checksum is 0 (RFC 9260, appendix A).
            let (ports, rest) = (crc32c(&body[..8]), &body[12..]);
            let crc = crc32c_append(crc32c_append(ports, &[0; 4]), rest);
            Some(crc ^ u32::from_le_bytes([body[8], body[9], body[10], body[11]]))
        }
        protocol::ICMP if is_v4 && body.len() >= 8 => Some(folded(sum(body)).into()),
        protocol::ICMPV6 if body.len() >= 8 => Some(folded(pseudo + sum(body)).into()),
        _ => None,
    }
}

/// The same of a frame.
pub fn of_frame(frame: &[u8]) -> Option<Wrong> {
    let is_ip = matches!(frame.get(12..ETHERNET)?, [8, 0] | [0x86, 0xdd]);
    if is_ip { read(frame, ETHERNET) } else { None }
}
