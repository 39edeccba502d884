//! ICMP errors (RFC 792, RFC 4443): which they are, and what one about a tunnel says of the packet inside.

use crate::{
    abi::tunnel::{CSUM, TunnelKind},
    cross::LEAST_MTU6,
    wire::{VXLAN_VNI, icmp, protocol},
};

/// Least MTU of IPv4 (RFC 791).
const LEAST_MTU4: u32 = 68;
/// ICMPv6 types below are errors (RFC 4443 §2.1).
const V6_INFORMATIONAL: u8 = 128;
/// GUE: version and control bit (draft-ietf-intarea-gue).
const GUE_NO_DATA: u8 = 0xe0;
/// GUE: words of the header after the first.
const GUE_WORDS: u8 = 0x1f;
/// GRE: a checksum is present (RFC 2784).
const GRE_CHECKSUM: u8 = 0x80;

/// Whether a message of this type is an error that follows the packet it is about. Redirects do not: they are meant for
/// who gets them.
#[inline(always)]
pub const fn is_error(v6: bool, kind: u8) -> bool {
    if v6 {
        kind < V6_INFORMATIONAL
    } else {
        matches!(kind, icmp::UNREACHABLE | icmp::SOURCE_QUENCH | icmp::TIME_EXCEEDED)
    }
}

/// The header's second word (host order) of the error about the inner packet, given that of the error about the outer
/// one: an MTU gets smaller by the tunnel's `overhead`. `None` if the sender of the inner packet has no use for it,
/// because it lets routers fragment.
#[inline(always)]
pub const fn rest_of_inner(v6: bool, kind: u8, code: u8, rest: u32, df: bool, overhead: u32) -> Option<u32> {
    if v6 && kind == icmp::V6_TOO_BIG {
        let mtu = rest.saturating_sub(overhead);
        return Some(if mtu < LEAST_MTU6 { LEAST_MTU6 } else { mtu });
    }
    if !v6 && kind == icmp::UNREACHABLE && code == icmp::CODE_FRAGMENTATION_NEEDED {
        let mtu = rest & 0xffff;
        return match (df, mtu > LEAST_MTU4 + overhead) {
            (false, _) => None,
            (true, true) => Some(mtu - overhead),
            // Too small to be true, or not told (RFC 1191 §4): left for the sender to judge.
            (true, false) => Some(mtu),
        };
    }
    Some(rest)
}

/// The path MTU that an error tells; `None` of an error about anything else. 0 is told by routers that do not know (RFC 1191 §5).
#[inline(always)]
pub const fn path_mtu(v6: bool, kind: u8, code: u8, rest: u32) -> Option<u32> {
    match (v6, kind, code) {
        (false, icmp::UNREACHABLE, icmp::CODE_FRAGMENTATION_NEEDED) => Some(rest & 0xffff),
        (true, icmp::V6_TOO_BIG, _) => Some(rest),
        _ => None,
    }
}

/// The path MTU to remember where one was `reported` and `known` was in force; `None` if the error is to be ignored. As the kernel's
/// routes do it: an MTU never grows by an error, one of IPv4 is not taken for less than `ip_rt_min_pmtu`, and one of IPv6 below
/// the least is not believed.
#[inline(always)]
pub const fn lower_mtu(v6: bool, reported: u32, known: u32) -> Option<u32> {
    /// Default of `ip_rt_min_pmtu`.
    const LEAST_BELIEVED4: u32 = 552;
    if reported > known {
        return None;
    }
    match (v6, reported < LEAST_MTU6, reported < LEAST_BELIEVED4) {
        (true, true, _) => None,
        (false, _, true) => Some(if known < LEAST_BELIEVED4 { known } else { LEAST_BELIEVED4 }),
        _ => Some(reported),
    }
}

/// Bytes of a tunnel's headers between the outer IP header and the inner packet: `start` is what follows the outer IP
/// header of this protocol (for UDP, the UDP header). `None` if it is no tunnel of ours.
#[inline(always)]
pub const fn tunnel_headers(carried: u8, start: [u8; 2]) -> Option<usize> {
    let [first, second] = start;
    match carried {
        protocol::IPIP | protocol::IPV6 => Some(0),
        protocol::GRE if first == GRE_CHECKSUM => Some(TunnelKind::GRE.header(CSUM) as usize),
        protocol::GRE if first == 0 => Some(TunnelKind::GRE.header(0) as usize),
        protocol::UDP if first == VXLAN_VNI && second == 0 => Some(TunnelKind::VXLAN.header(0) as usize),
        protocol::UDP if first & GUE_NO_DATA == 0 && matches!(second, protocol::IPIP | protocol::IPV6) => {
            Some(TunnelKind::GUE.header(0) as usize + (first & GUE_WORDS) as usize * 4)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_from_the_rest() {
        for kind in 0..=255 {
            assert_eq!(is_error(false, kind), [3, 4, 11].contains(&kind));
            assert_eq!(is_error(true, kind), kind < 128);
        }
    }

    #[test]
    fn an_mtu_gets_smaller_by_the_tunnel() {
        let v4 = |rest, df| rest_of_inner(false, 3, 4, rest, df, 32);
        assert_eq!(v4(1200, true), Some(1168));
        assert_eq!(v4(0, true), Some(0));
        assert_eq!(v4(100, true), Some(100));
        assert_eq!(v4(101, true), Some(69));
        assert_eq!(v4(1200, false), None);
        let v6 = |rest| rest_of_inner(true, 2, 0, rest, true, 40);
        assert_eq!(v6(1500), Some(1460));
        assert_eq!(v6(1300), Some(1280));
        assert_eq!(v6(0), Some(1280));
    }

    #[test]
    fn other_errors_stay_as_they_are() {
        for (v6, kind, code) in [(false, 3, 3), (false, 11, 0), (false, 2, 0), (true, 1, 4), (true, 3, 0), (true, 4, 1)]
        {
            assert_eq!(rest_of_inner(v6, kind, code, 7, false, 20), Some(7));
        }
    }

    #[test]
    fn a_path_mtu_never_grows_by_an_error() {
        assert_eq!(
            (path_mtu(false, 3, 4, 0xabcd_0384), path_mtu(false, 3, 3, 900), path_mtu(false, 2, 0, 900)),
            (Some(900), None, None)
        );
        assert_eq!((path_mtu(true, 2, 0, 1300), path_mtu(true, 3, 4, 1300)), (Some(1300), None));
        let v4 = |reported, known| lower_mtu(false, reported, known);
        assert_eq!([v4(900, 1500), v4(1500, 1500), v4(1501, 1500)], [Some(900), Some(1500), None]);
        assert_eq!([v4(0, 1500), v4(551, 1500), v4(100, 296), v4(900, 0)], [Some(552), Some(552), Some(296), None]);
        let v6 = |reported, known| lower_mtu(true, reported, known);
        assert_eq!(
            [v6(1300, 1500), v6(1280, 1500), v6(1279, 1500), v6(1600, 1500)],
            [Some(1300), Some(1280), None, None]
        );
    }

    #[test]
    fn tunnels_are_recognised() {
        assert_eq!(tunnel_headers(4, [0x45, 0]), Some(0));
        assert_eq!(tunnel_headers(41, [0x60, 0]), Some(0));
        assert_eq!(tunnel_headers(47, [0, 0]), Some(4));
        assert_eq!(tunnel_headers(47, [0x80, 0]), Some(8));
        // With a key or a sequence number.
        assert_eq!(tunnel_headers(47, [0x20, 0]), None);
        assert_eq!(tunnel_headers(17, [0, 4]), Some(12));
        assert_eq!(tunnel_headers(17, [2, 41]), Some(20));
        assert_eq!(tunnel_headers(17, [8, 0]), Some(30));
        // GUE's control messages, and its version without a header.
        assert_eq!(tunnel_headers(17, [0x20, 4]), None);
        assert_eq!(tunnel_headers(17, [0x45, 4]), None);
        assert_eq!(tunnel_headers(6, [0, 4]), None);
    }
}
