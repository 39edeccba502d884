//! Packets of one family made packets of the other (RFC 7915), for FullNAT between a client and a real server of different
//! families. Only what has neither options nor extension headers is translated.

use crate::{
    byte_order::{Be16, Be32},
    wire::{Ipv4, Ipv6, fragment, icmp, length_field},
};

/// Bytes that an IPv6 header is longer than one of IPv4.
pub const GROWTH: u32 = 20;
/// Least MTU of IPv6 (RFC 8200, section 5).
pub const LEAST_MTU6: u32 = 1280;
/// A packet from IPv6 that is no longer than this as one of IPv4 may be fragmented (RFC 7915, section 5.1): its sender would
/// not make it smaller.
const FRAGMENTED: u32 = LEAST_MTU6 - GROWTH;
/// MTUs of links, for a router that does not tell its own (RFC 1191, section 7), which RFC 7915 has guessed from the packet.
const PLATEAUS: [u32; 10] = [32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68];

/// What of a network header is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outline {
    /// TOS or traffic class.
    pub tos: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Protocol of the payload, as the new header has it.
    pub protocol: u8,
    /// Bytes of payload.
    pub payload: u32,
}

/// The longest packet of one family (IPv4 if `v4`) that is no longer than `mtu` as one of the other.
#[inline(always)]
pub const fn room(v4: bool, mtu: u32) -> u32 {
    if v4 { mtu.saturating_sub(GROWTH) } else { mtu + GROWTH }
}

/// The MTU that the sender of a packet of one family (IPv4 if `v4`) is told where one of the other family may be `mtu` long,
/// `less` bytes of which are needed for something else.
#[inline(always)]
pub const fn reported_mtu(v4: bool, mtu: u32, less: u32) -> u32 {
    let mtu = room(v4, mtu).saturating_sub(less);
    if v4 || mtu > LEAST_MTU6 { mtu } else { LEAST_MTU6 }
}

/// Whether a packet of `length` bytes may be fragmented as one of the other family.
#[inline(always)]
pub const fn may_be_cut(v4: bool, length: u32, df: bool) -> bool {
    if v4 { !df } else { length <= LEAST_MTU6 }
}

/// The IPv4 header for a payload; `id` is a number to tell fragments by.
#[inline(always)]
pub const fn header4(outline: &Outline, source: u32, destination: u32, id: Be16) -> Ipv4 {
    let length = outline.payload + 20;
    let (id, field) = if length > FRAGMENTED { (Be16::ZERO, fragment::DF) } else { (id, Be16::ZERO) };
    Ipv4 {
        version_ihl: 0x45,
        tos: outline.tos,
        length: length_field(length),
        id,
        fragment: field,
        ttl: outline.ttl,
        protocol: outline.protocol,
        check: 0,
        source,
        destination,
    }
    .sealed()
}

/// The IPv6 header for a payload.
#[inline(always)]
pub const fn header6(outline: &Outline, source: [u32; 4], destination: [u32; 4]) -> Ipv6 {
    Ipv6 {
        version: Be32::new(6 << 28 | (outline.tos as u32) << 20),
        payload_length: length_field(outline.payload),
        next_header: outline.protocol,
        hop_limit: outline.ttl,
        source,
        destination,
    }
}

/// Type, code and second word (host order) of an ICMP error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// An MTU, a pointer, or 0.
    pub rest: u32,
}

/// ICMP's error as one of ICMPv6 (RFC 7915, section 4.2); `None` if there is none. `length` is that of the packet it is
/// about, for a router that tells no MTU.
#[inline(always)]
pub const fn error6(e: &Error, length: u32) -> Option<Error> {
    /// Where a header of IPv6 has the protocol of what follows.
    const NEXT_HEADER: u32 = 6;
    match (e.kind, e.code) {
        (icmp::UNREACHABLE, 2) => Some(Error { kind: icmp::V6_PARAMETER, code: 1, rest: NEXT_HEADER }),
        (icmp::UNREACHABLE, icmp::CODE_PORT) => {
            Some(Error { kind: icmp::V6_UNREACHABLE, code: icmp::V6_CODE_PORT, rest: 0 })
        }
        (icmp::UNREACHABLE, icmp::CODE_FRAGMENTATION_NEEDED) => {
            let mtu = match e.rest & 0xffff {
                0 => plateau(length),
                mtu => mtu,
            };
            Some(Error { kind: icmp::V6_TOO_BIG, code: 0, rest: reported_mtu(false, mtu, 0) })
        }
        (icmp::UNREACHABLE, 0 | 1 | 5..=8 | 11 | 12) => Some(Error { kind: icmp::V6_UNREACHABLE, code: 0, rest: 0 }),
        (icmp::UNREACHABLE, 9 | 10 | 13 | 15) => Some(Error { kind: icmp::V6_UNREACHABLE, code: 1, rest: 0 }),
        (icmp::TIME_EXCEEDED, code) => Some(Error { kind: icmp::V6_TIME_EXCEEDED, code, rest: 0 }),
        _ => None,
    }
}

/// The largest MTU of a link that is smaller than a packet.
#[inline(always)]
const fn plateau(length: u32) -> u32 {
    let mut at = 0;
    while at < PLATEAUS.len() {
        if PLATEAUS[at] < length {
            return PLATEAUS[at];
        }
        at += 1;
    }
    PLATEAUS[PLATEAUS.len() - 1]
}

/// ICMPv6's error as one of ICMP (RFC 7915, section 5.2); `None` if there is none, or none that the sender of an IPv4 packet
/// could make use of.
#[inline(always)]
pub const fn error4(e: &Error) -> Option<Error> {
    match (e.kind, e.code) {
        (icmp::V6_UNREACHABLE, 0 | 2 | 3) => Some(Error { kind: icmp::UNREACHABLE, code: 1, rest: 0 }),
        (icmp::V6_UNREACHABLE, 1) => Some(Error { kind: icmp::UNREACHABLE, code: 10, rest: 0 }),
        (icmp::V6_UNREACHABLE, icmp::V6_CODE_PORT) => {
            Some(Error { kind: icmp::UNREACHABLE, code: icmp::CODE_PORT, rest: 0 })
        }
        (icmp::V6_TOO_BIG, _) => {
            let mtu = reported_mtu(true, e.rest, 0);
            let mtu = if mtu > 0xffff { 0xffff } else { mtu };
            Some(Error { kind: icmp::UNREACHABLE, code: icmp::CODE_FRAGMENTATION_NEEDED, rest: mtu })
        }
        (icmp::V6_TIME_EXCEEDED, code) => Some(Error { kind: icmp::TIME_EXCEEDED, code, rest: 0 }),
        (icmp::V6_PARAMETER, 1) => Some(Error { kind: icmp::UNREACHABLE, code: 2, rest: 0 }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::checksum;

    #[test]
    fn sizes_differ_by_the_headers() {
        assert_eq!((room(true, 1500), room(false, 1500)), (1480, 1520));
        assert_eq!((reported_mtu(true, 1500, 8), reported_mtu(false, 1500, 20)), (1472, 1500));
        assert_eq!(reported_mtu(false, 1000, 20), 1280, "no sender of IPv6 has to go lower");
        assert!(may_be_cut(true, 4000, false) && !may_be_cut(true, 40, true));
        assert!(may_be_cut(false, 1280, true) && !may_be_cut(false, 1281, true));
    }

    #[test]
    fn headers_are_translated() {
        let outline = Outline { tos: 0xb8, ttl: 7, protocol: 6, payload: 1240 };
        let h = header4(&outline, 1, 2, Be16::new(3));
        assert_eq!(({ h.length }, { h.fragment }, { h.id }), (Be16::new(1260), Be16::ZERO, Be16::new(3)));
        let h = header4(&Outline { payload: 1241, ..outline }, 1, 2, Be16::new(3));
        assert_eq!(({ h.fragment }, { h.id }), (fragment::DF, Be16::ZERO));
        let h = header6(&outline, [1; 4], [2; 4]);
        assert_eq!({ h.version }.word().to_ne_bytes(), [0x6b, 0x80, 0, 0]);
        assert_eq!(({ h.payload_length }.get(), h.next_header, h.hop_limit), (1240, 6, 7));
    }

    fn e(kind: u8, code: u8, rest: u32) -> Error {
        Error { kind, code, rest }
    }

    #[test]
    fn errors_are_translated_to_icmpv6() {
        for code in 0..=255 {
            let expected = match code {
                2 => Some(e(4, 1, 6)),
                3 => Some(e(1, 4, 0)),
                4 => Some(e(2, 0, 1420)),
                0 | 1 | 5..=8 | 11 | 12 => Some(e(1, 0, 0)),
                9 | 10 | 13 | 15 => Some(e(1, 1, 0)),
                _ => None,
            };
            assert_eq!(error6(&e(3, code, 1400), 1500), expected, "code {code}");
        }
        assert_eq!(error6(&e(3, 4, 576), 1500), Some(e(2, 0, 1280)));
        assert_eq!(error6(&e(3, 4, 0), 1500), Some(e(2, 0, 1512)), "the plateau below");
        assert_eq!(error6(&e(3, 4, 0), 40), Some(e(2, 0, 1280)));
        assert_eq!(error6(&e(11, 1, 9), 1500), Some(e(3, 1, 0)));
        assert_eq!(error6(&e(4, 0, 0), 1500), None);
    }

    #[test]
    fn errors_are_translated_to_icmp() {
        for code in 0..=255 {
            let expected = match code {
                0 | 2 | 3 => Some(e(3, 1, 0)),
                1 => Some(e(3, 10, 0)),
                4 => Some(e(3, 3, 0)),
                _ => None,
            };
            assert_eq!(error4(&e(1, code, 0)), expected, "code {code}");
        }
        assert_eq!(error4(&e(2, 0, 1400)), Some(e(3, 4, 1380)));
        assert_eq!(error4(&e(2, 0, u32::MAX)), Some(e(3, 4, 0xffff)));
        assert_eq!(error4(&e(3, 0, 0)), Some(e(11, 0, 0)));
        assert_eq!(error4(&e(4, 1, 6)), Some(e(3, 2, 0)));
        assert_eq!((error4(&e(4, 0, 7)), error4(&e(128, 0, 0))), (None, None));
    }

    proptest! {
        #[test]
        fn a_header_has_its_checksum(tos: u8, ttl: u8, protocol: u8, payload in 0u32..65516, source: u32, destination: u32, id: u16) {
            let h = header4(&Outline { tos, ttl, protocol, payload }, source, destination, Be16::from_word(id));
            // SAFETY: plain integers without padding.
            let bytes: [u8; 20] = unsafe { core::mem::transmute(h) };
            prop_assert_eq!(checksum::fold(checksum::sum(&bytes)), 0xffff);
        }
    }
}
