//! Frames as clients and real servers send them.

use host_director::director::rules::Ip;
use lvs_common::wire::protocol;

/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;

/// An end of a connection.
pub type End = (Ip, u16);

/// A packet to be.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// The director's MAC address on the link.
    pub to: [u8; 6],
    /// Source and destination, of one family.
    pub ends: (End, End),
    /// IP protocol number.
    pub protocol: u8,
    /// TCP flags, or the type of the first chunk of SCTP.
    pub flags: u8,
    /// TCP's options, padded to words by the builder.
    pub options: &'a [u8],
    /// Bytes of payload.
    pub length: usize,
    /// TTL or hop limit.
    pub ttl: u8,
    /// IPv4: may not be fragmented.
    pub df: bool,
    /// UDP over IPv4: without a checksum.
    pub is_unsummed: bool,
}

/// The frame of a plan.
pub fn frame(plan: &Plan<'_>) -> Vec<u8> {
    let (source, destination) = plan.ends;
    let mut transport = Vec::with_capacity(64 + plan.length);
    transport.extend(source.1.to_be_bytes());
    transport.extend(destination.1.to_be_bytes());
    let check = match plan.protocol {
        protocol::TCP => {
            let words = plan.options.len().div_ceil(4).min(10);
            transport.extend([0, 0, 1, 0, 0, 0, 2, 0, (5 + words as u8) << 4, plan.flags, 0x20, 0, 0, 0, 0, 0]);
            let end = transport.len() + words * 4;
            transport.extend(plan.options.iter().take(words * 4));
            transport.resize(end, 1);
            16
        }
        protocol::UDP => {
            transport.extend(((8 + plan.length) as u16).to_be_bytes());
            transport.extend([0, 0]);
            6
        }
        protocol::SCTP => {
            transport.extend([0, 0, 0, 1, 0, 0, 0, 0, plan.flags, 0]);
            transport.extend(((4 + plan.length) as u16).to_be_bytes());
            usize::MAX
        }
        _ => usize::MAX,
    };
    transport.extend((0..plan.length).map(|at| at as u8));
    if check != usize::MAX && !(plan.is_unsummed && source.0.is_v4() && plan.protocol == protocol::UDP) {
        let sum = finish(pseudo(source.0, destination.0, plan.protocol, transport.len()) + sum(&transport));
        let sum = if sum == 0 && plan.protocol == protocol::UDP { 0xffff } else { sum };
        transport[check..check + 2].copy_from_slice(&sum.to_be_bytes());
    }
    if plan.protocol == protocol::SCTP {
        let crc = crc32c::crc32c(&transport);
        transport[8..12].copy_from_slice(&crc.to_le_bytes());
    }
    packet(plan.to, (source.0, destination.0), plan.protocol, plan.ttl, plan.df, &transport)
}

/// A frame with this IP payload.
pub fn packet(to: [u8; 6], ends: (Ip, Ip), protocol: u8, ttl: u8, df: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(ETHERNET + 40 + payload.len());
    frame.extend(to);
    frame.extend([2, 0, 0, 0, 9, 9]);
    if ends.0.is_v4() {
        frame.extend([8, 0, 0x45, 0x10]);
        frame.extend(((20 + payload.len()) as u16).to_be_bytes());
        frame.extend([0x12, 0x34, if df { 0x40 } else { 0 }, 0, ttl, protocol, 0, 0]);
        frame.extend(ends.0.octets());
        frame.extend(ends.1.octets());
        let check = finish(sum(&frame[ETHERNET..]));
        frame[24..26].copy_from_slice(&check.to_be_bytes());
    } else {
        frame.extend([0x86, 0xdd, 0x60, 0x10, 0, 7]);
        frame.extend((payload.len() as u16).to_be_bytes());
        frame.extend([protocol, ttl]);
        frame.extend(ends.0.octets());
        frame.extend(ends.1.octets());
    }
    frame.extend(payload);
    frame
}

/// Cuts a frame's IP packet into fragments with so many bytes of payload each, a multiple of eight.
pub fn fragments(frame: &[u8], most: usize) -> Vec<Vec<u8>> {
    let is_v4 = frame[12..14] == [8, 0];
    let header = if is_v4 { ETHERNET + 20 } else { ETHERNET + 40 };
    let payload = &frame[header..];
    let count = payload.len().div_ceil(most);
    let cut = |(number, chunk): (usize, &[u8])| {
        let (offset, more) = (number * most, number + 1 < count);
        let mut fragment = frame[..header].to_vec();
        if is_v4 {
            fragment[16..18].copy_from_slice(&((20 + chunk.len()) as u16).to_be_bytes());
            let field = (offset / 8) as u16 | if more { 0x2000 } else { 0 };
            fragment[20..22].copy_from_slice(&field.to_be_bytes());
            fragment[24..26].fill(0);
            let check = finish(sum(&fragment[ETHERNET..]));
            fragment[24..26].copy_from_slice(&check.to_be_bytes());
        } else {
            fragment[18..20].copy_from_slice(&((8 + chunk.len()) as u16).to_be_bytes());
            let next = std::mem::replace(&mut fragment[20], protocol::FRAGMENT);
            fragment.extend([next, 0]);
            fragment.extend((offset as u16 | u16::from(more)).to_be_bytes());
            fragment.extend([0, 0, 0x56, 0x78]);
        }
        fragment.extend(chunk);
        fragment
    };
    payload.chunks(most).enumerate().map(cut).collect()
}

/// The sum of 16-bit words, most significant byte first.
pub fn sum(bytes: &[u8]) -> u64 {
    // Words of either order have the same sum, its bytes in that order (RFC 1071), and longer words are as good.
    let (words, rest) = bytes.as_chunks::<4>();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    let sum = words.iter().chain([&last]).map(|word| u64::from(u32::from_ne_bytes(*word))).sum::<u64>();
    u64::from(u16::from_be_bytes(fold(sum).to_ne_bytes()))
}

/// A sum as 16 bits, with the carries added.
pub fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The checksum of a sum.
pub fn finish(sum: u64) -> u16 {
    !fold(sum)
}

/// The sum of a pseudo header.
pub fn pseudo(source: Ip, destination: Ip, protocol: u8, length: usize) -> u64 {
    sum(&source.octets()) + sum(&destination.octets()) + u64::from(protocol) + length as u64
}
