//! Which packets may open a connection. IPVS works at `LOCAL_IN`, so the kernel's input routing has refused martians, checked the
//! reverse path, and routed on what is not for the host, before IPVS sees a packet. The data plane comes first, so it decides the
//! same by address and by the kernel's FIB look-ups, where a connection is made.

use crate::abi::{AF_INET, Address, IpAddress, Mode, device_flags};
use crate::exit::Exit;

/// What the kernel's FIB look-up says of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is reached by way of a device.
    Out,
    /// It is the host's own, a broadcast address, or of no route: the look-up does not tell which.
    Here,
    /// A route refuses it: blackhole, unreachable, prohibit.
    Refused,
    /// The kernel does not say: the device that was asked from does not forward, or is gone.
    Unknown,
}

/// Results of the kernel's FIB look-up (`BPF_FIB_LKUP_RET_*`).
pub mod fib {
    /// There is a route, and the neighbour's MAC address is known.
    pub const SUCCESS: i64 = 0;
    /// A route drops what goes there.
    pub const BLACKHOLE: i64 = 1;
    /// A route refuses what goes there.
    pub const UNREACHABLE: i64 = 2;
    /// A route prohibits what goes there.
    pub const PROHIBIT: i64 = 3;
    /// A local or broadcast address, or no route.
    pub const NOT_FORWARDED: i64 = 4;
    /// The device that was asked from does not forward.
    pub const FORWARDING_OFF: i64 = 5;
    /// The route encapsulates, which the look-up does not describe.
    pub const ENCAPSULATED: i64 = 6;
    /// There is a route, and no known neighbour.
    pub const NO_NEIGHBOUR: i64 = 7;
    /// There is a route, whose MTU the packet does not fit.
    pub const TOO_BIG: i64 = 8;
}

impl Way {
    /// The meaning of a look-up's result.
    #[inline(always)]
    pub const fn of(result: i64) -> Way {
        match result {
            fib::SUCCESS | fib::ENCAPSULATED | fib::NO_NEIGHBOUR | fib::TOO_BIG => Way::Out,
            fib::NOT_FORWARDED => Way::Here,
            fib::BLACKHOLE | fib::UNREACHABLE | fib::PROHIBIT => Way::Refused,
            _ => Way::Unknown,
        }
    }

    /// Whether the host routes on, or refuses by a route, what goes to such an address: IPVS never sees it.
    #[inline(always)]
    pub const fn is_transit(self) -> bool {
        matches!(self, Way::Out | Way::Refused)
    }
}

/// What is remembered at `now` (jiffies) of an address that is [`Way::Here`] for packets that come in on `device`: that it is
/// for the rest of this jiffy. A new connection costs two look-ups else, which is most of what routing takes of it. An address that
/// comes is served at once all the same, as nothing is remembered of one that is not here. The source is not part of it: the rule for
/// local addresses comes before all others that `ip rule` adds.
#[inline(always)]
pub const fn known_here(device: u32, now: u64) -> u64 {
    let until = (now as u32).wrapping_add(1);
    (device as u64) << 32 | until as u64
}

/// Whether what is remembered tells that the address is here.
#[inline(always)]
pub const fn is_known_here(known: u64, device: u32, now: u64) -> bool {
    (known >> 32) as u32 == device && (known as u32).wrapping_sub(now as u32).wrapping_sub(1) < 1 << 31
}

/// Whether an IPv4 address is one of 127.0.0.0/8, or an IPv6 address is `::1`.
#[inline(always)]
pub fn is_loopback<A: IpAddress>(address: A) -> bool {
    let [first, second, third, last] = host_order(address);
    if A::IS_V4 { first >> 24 == 127 } else { first | second | third == 0 && last == 1 }
}

/// Whether an address can be no host's: unspecified, multicast, IPv4's broadcast, an IPv4 address in IPv6's clothes (which Linux
/// refuses from a wire), or one that is good on one link only and so no client's (`fe80::/10`).
#[inline(always)]
fn is_nobody<A: IpAddress>(address: A) -> bool {
    let [first, second, third, last] = host_order(address);
    if A::IS_V4 {
        return first == 0 || first >> 28 == 0xe || first == u32::MAX;
    }
    first | second | third | last == 0
        || first >> 24 == 0xff
        || first >> 22 == 0xfe80 >> 6
        || first | second == 0 && third == 0xffff
}

/// Whether no honest packet that comes in from a wire has these ends. `flags` are the device's ([`device_flags`]): IPv4's loopback
/// addresses are good where the host routes them (`route_localnet`).
#[inline(always)]
pub fn is_martian<A: IpAddress>(source: A, destination: A, flags: u16) -> bool {
    let has_loopback = is_loopback(source) || is_loopback(destination);
    let is_routed = A::IS_V4 && flags & device_flags::ROUTES_LOOPBACK != 0;
    is_nobody(source) || source == destination || has_loopback && !is_routed
}

/// Why a source is refused, if it is. `way` is where the kernel would send an answer; `comes_back` tells whether that is by the
/// device that the packet came in on, and `is_own` tells the host's own addresses from those without a route. Linux checks the
/// reverse path of IPv4 only.
#[inline(always)]
pub fn judge_source<A: IpAddress>(
    way: Way,
    flags: u16,
    comes_back: impl FnOnce() -> bool,
    is_own: impl FnOnce() -> bool,
) -> Option<Exit> {
    let is_strict = A::IS_V4 && flags & device_flags::STRICT_SOURCES != 0;
    let is_loose = A::IS_V4 && flags & device_flags::ROUTED_SOURCES != 0;
    let is_refused = match way {
        Way::Out => is_strict && !comes_back(),
        Way::Here if is_own() => {
            return if flags & device_flags::OWN_SOURCES != 0 { None } else { Some(Exit::DropMartian) };
        }
        Way::Here | Way::Refused => is_strict || is_loose,
        Way::Unknown => false,
    };
    if is_refused { Some(Exit::DropReversePath) } else { None }
}

/// Whether a connection from `source` to a real server would put a loopback address on a wire, as the director's own connections to
/// a service on `127.0.0.1` or `::1` would: IPVS drops their packets. FullNAT gives them a source of its own.
#[inline(always)]
pub fn leaves_loopback<A: IpAddress>(source: A, mode: Mode, real_is_local: impl FnOnce() -> bool) -> bool {
    is_loopback(source) && mode != Mode::FULLNAT && !real_is_local()
}

/// The addresses that differ from one in the last bit (`nth` 0), and in the last but one (1).
#[inline(always)]
pub fn near(family: u8, address: &Address, nth: u32) -> Address {
    let ([first, second, third, last], bit) = (address.0, (1u32 << nth).to_be());
    if family == AF_INET { Address([first ^ bit, 0, 0, 0]) } else { Address([first, second, third, last ^ bit]) }
}

/// The words of an address in host order.
#[inline(always)]
fn host_order<A: IpAddress>(address: A) -> [u32; 4] {
    let [a, b, c, d] = address.widen().0;
    [u32::from_be(a), u32::from_be(b), u32::from_be(c), u32::from_be(d)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::AF_INET6;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn v4(text: &str) -> u32 {
        u32::narrow(Address::v4(text.parse::<Ipv4Addr>().unwrap().octets()))
    }

    fn v6(text: &str) -> [u32; 4] {
        Address::v6(text.parse::<Ipv6Addr>().unwrap().octets()).0
    }

    #[test]
    fn sources_that_cannot_be_are_martians() {
        let vip = v4("203.0.113.10");
        for source in
            ["127.0.0.1", "127.255.255.255", "0.0.0.0", "224.0.0.1", "239.1.2.3", "255.255.255.255", "203.0.113.10"]
        {
            assert!(is_martian(v4(source), vip, 0), "{source}");
        }
        for source in ["1.0.0.1", "126.1.1.1", "128.0.0.1", "223.255.255.255", "240.0.0.1", "10.0.0.1", "169.254.1.1"] {
            assert!(!is_martian(v4(source), vip, 0), "{source}");
        }
        let vip = v6("2001:db8:f::10");
        for source in ["::", "::1", "ff02::1", "fe80::1", "febf::1", "::ffff:192.0.2.77", "2001:db8:f::10"] {
            assert!(is_martian(v6(source), vip, device_flags::ROUTES_LOOPBACK), "{source}");
        }
        for source in ["2001:db8::1", "fec0::1", "fd00::1", "::2", "64:ff9b::1", "::192.0.2.1"] {
            assert!(!is_martian(v6(source), vip, 0), "{source}");
        }
    }

    #[test]
    fn loopback_comes_from_a_wire_where_the_host_routes_it() {
        let (client, lo) = (v4("198.51.100.1"), v4("127.0.0.1"));
        assert!(is_martian(client, lo, 0) && is_martian(lo, client, 0));
        assert!(!is_martian(client, lo, device_flags::ROUTES_LOOPBACK));
        assert!(is_martian(v6("2001:db8::1"), v6("::1"), 0));
    }

    #[test]
    fn own_addresses_are_martians_with_or_without_reverse_path() {
        let judge = |way, flags, back, own| judge_source::<u32>(way, flags, || back, || own);
        let (strict, loose, own) =
            (device_flags::STRICT_SOURCES, device_flags::ROUTED_SOURCES, device_flags::OWN_SOURCES);
        assert_eq!(judge(Way::Here, 0, false, true), Some(Exit::DropMartian));
        assert_eq!(judge(Way::Here, strict, false, true), Some(Exit::DropMartian));
        assert_eq!(judge(Way::Here, own, false, true), None);
        assert_eq!(judge(Way::Here, 0, false, false), None, "a source without a route is a client's without rp_filter");
        assert_eq!(judge(Way::Here, loose, false, false), Some(Exit::DropReversePath));
        assert_eq!(judge(Way::Out, loose, false, false), None);
        assert_eq!(judge(Way::Out, strict, false, false), Some(Exit::DropReversePath));
        assert_eq!(judge(Way::Out, strict, true, false), None);
        assert_eq!(judge(Way::Refused, strict, true, false), Some(Exit::DropReversePath));
        assert_eq!(judge(Way::Refused, 0, true, false), None);
        assert_eq!(judge_source::<[u32; 4]>(Way::Out, strict, || false, || false), None, "rp_filter is IPv4's");
    }

    #[test]
    fn an_address_stays_known_for_a_jiffy_on_one_device() {
        for now in [0, 1000, u64::from(u32::MAX) - 3, u64::from(u32::MAX)] {
            let known = known_here(7, now);
            assert!(is_known_here(known, 7, now));
            assert!(!is_known_here(known, 7, now + 1) && !is_known_here(known, 7, now + 1_000_000));
            assert!(!is_known_here(known, 8, now));
        }
        assert!(!is_known_here(0, 7, 0), "nothing is known at first");
    }

    #[test]
    fn loopback_addresses_stay_in_the_host() {
        let (lo, vip) = (v4("127.0.0.1"), v4("203.0.113.10"));
        for mode in [Mode::MASQ, Mode::ROUTE, Mode::TUNNEL] {
            assert!(leaves_loopback(lo, mode, || false), "to another host");
            assert!(leaves_loopback(v6("::1"), mode, || false), "to another host");
            assert!(!leaves_loopback(lo, mode, || true), "to a server of the director");
            assert!(!leaves_loopback(vip, mode, || false));
        }
        assert!(!leaves_loopback(lo, Mode::FULLNAT, || false));
    }

    #[test]
    fn near_addresses_differ_in_the_last_bits() {
        let four = v4("198.51.100.254").widen();
        assert_eq!(near(AF_INET, &four, 0), v4("198.51.100.255").widen());
        assert_eq!(near(AF_INET, &four, 1), v4("198.51.100.252").widen());
        assert_eq!(near(AF_INET6, &v6("2001:db8::fe").widen(), 0), v6("2001:db8::ff").widen());
    }

    proptest! {
        #[test]
        fn a_result_has_one_meaning(result: i64) {
            let way = Way::of(result);
            prop_assert_eq!(way.is_transit(), (0..=8).contains(&result) && result != fib::NOT_FORWARDED && result != fib::FORWARDING_OFF);
            prop_assert_eq!(way == Way::Unknown, result == fib::FORWARDING_OFF || !(0..=8).contains(&result));
        }

        #[test]
        fn martians_are_those_of_the_standard_library(octets: [u8; 4], other: [u8; 4]) {
            let ip = Ipv4Addr::from(octets);
            let (source, destination) = (Address::v4(octets).0[0], Address::v4(other).0[0]);
            let is_expected = ip.is_loopback() || ip.is_multicast() || ip.is_broadcast() || ip.is_unspecified()
                || Ipv4Addr::from(other).is_loopback() || octets == other;
            prop_assert_eq!(is_martian(source, destination, 0), is_expected);
        }

        #[test]
        fn martians_of_ipv6_are_those_of_the_standard_library(octets: [u8; 16], zeros in 0usize..=16) {
            let mut octets = octets;
            octets[..zeros].fill(0);
            let (ip, vip) = (Ipv6Addr::from(octets), v6("2001:db8:f::10"));
            let is_expected = ip.is_loopback() || ip.is_multicast() || ip.is_unspecified() || ip.is_unicast_link_local()
                || ip.to_ipv4_mapped().is_some();
            prop_assert_eq!(is_martian(Address::v6(octets).0, vip, 0), is_expected);
        }

        #[test]
        fn without_a_switch_only_own_sources_are_refused(back: bool, own: bool, which in 0usize..4) {
            let way = [Way::Out, Way::Here, Way::Refused, Way::Unknown][which];
            let expected = (way == Way::Here && own).then_some(Exit::DropMartian);
            prop_assert_eq!(judge_source::<u32>(way, 0, || back, || own), expected);
        }
    }
}
