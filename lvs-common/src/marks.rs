//! Classification rules: which firewall mark a packet has, for services by mark (`-f`). XDP and TC see packets before
//! netfilter can mark them.

use core::cmp::{Ordering, Reverse};

use crate::abi::{AF_INET, Address, MarkRule};

/// What a rule looks at of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Destination port, host order; 0 without ports.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// `AF_INET` or `AF_INET6`.
    pub family: u8,
}

/// Word `index`, as it stands in memory, of the mask of a prefix.
#[inline(always)]
const fn mask(bits: u8, index: u32) -> u32 {
    let bits = (bits as u32).saturating_sub(index * 32);
    if bits >= 32 { u32::MAX } else { (!(u32::MAX.wrapping_shr(bits))).to_be() }
}

/// Whether an address has this prefix.
#[inline(always)]
const fn has_prefix(address: Address, prefix: Address, bits: u8) -> bool {
    let (a, p) = (address.0, prefix.0);
    ((a[0] ^ p[0]) & mask(bits, 0))
        | ((a[1] ^ p[1]) & mask(bits, 1))
        | ((a[2] ^ p[2]) & mask(bits, 2))
        | ((a[3] ^ p[3]) & mask(bits, 3))
        == 0
}

/// The address with everything after the prefix set to 0.
pub const fn prefix(address: Address, bits: u8) -> Address {
    let a = address.0;
    Address([a[0] & mask(bits, 0), a[1] & mask(bits, 1), a[2] & mask(bits, 2), a[3] & mask(bits, 3)])
}

impl MarkRule {
    /// Whether the rule is about a packet.
    #[inline(always)]
    pub fn matches(&self, s: &Subject) -> bool {
        self.family == s.family
            && (self.protocol == 0 || self.protocol == s.protocol)
            && self.first_port <= s.port
            && s.port <= self.last_port
            && has_prefix(s.destination, self.destination, self.destination_bits)
            && has_prefix(s.source, self.source, self.source_bits)
    }

    /// Which of two rules is asked first: the longest match goes first. Destination before source before ports before
    /// protocol; no two rules are equal in it.
    pub fn order(&self, other: &Self) -> Ordering {
        let key = |r: &Self| {
            (
                r.family,
                Reverse(r.destination_bits),
                Reverse(r.source_bits),
                r.last_port - r.first_port,
                r.protocol == 0,
                (r.destination, r.source, r.first_port, r.protocol),
            )
        };
        key(self).cmp(&key(other))
    }

    /// Whether it is about the same packets as another one.
    pub fn is_about_the_same(&self, other: &Self) -> bool {
        self.order(other).is_eq()
    }

    /// Bits of an address of its family.
    pub const fn address_bits(&self) -> u8 {
        if self.family == AF_INET { 32 } else { 128 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(destination: [u8; 4], bits: u8, ports: (u16, u16), protocol: u8, mark: u32) -> MarkRule {
        MarkRule {
            destination: prefix(Address::v4(destination), bits),
            destination_bits: bits,
            first_port: ports.0,
            last_port: ports.1,
            protocol,
            family: AF_INET,
            mark,
            ..MarkRule::default()
        }
    }

    fn first(rules: &[MarkRule], destination: [u8; 4], port: u16, protocol: u8) -> u32 {
        let subject = Subject {
            source: Address::v4([10, 0, 0, 1]),
            destination: Address::v4(destination),
            port,
            protocol,
            family: AF_INET,
        };
        rules.iter().find(|rule| rule.matches(&subject)).map_or(0, |rule| rule.mark)
    }

    #[test]
    fn the_longest_match_goes_first() {
        let mut rules = vec![
            rule([0, 0, 0, 0], 0, (0, 65535), 0, 1),
            rule([192, 0, 2, 0], 24, (0, 65535), 0, 2),
            rule([192, 0, 2, 7], 32, (80, 90), 6, 3),
            rule([192, 0, 2, 7], 32, (85, 85), 0, 4),
            MarkRule {
                source: Address::v4([10, 0, 0, 0]),
                source_bits: 8,
                ..rule([192, 0, 2, 8], 32, (0, 65535), 0, 5)
            },
            rule([192, 0, 2, 8], 32, (0, 65535), 0, 6),
        ];
        rules.sort_by(MarkRule::order);
        assert_eq!(first(&rules, [1, 1, 1, 1], 80, 6), 1);
        assert_eq!(first(&rules, [192, 0, 2, 1], 80, 6), 2);
        assert_eq!(first(&rules, [192, 0, 2, 7], 80, 6), 3);
        assert_eq!(first(&rules, [192, 0, 2, 7], 80, 17), 2);
        assert_eq!(first(&rules, [192, 0, 2, 7], 85, 6), 4);
        assert_eq!(first(&rules, [192, 0, 2, 8], 85, 6), 5);
    }

    proptest! {
        #[test]
        fn a_prefix_is_that_of_the_numbers(a: u128, b: u128, bits in 0u8..=128) {
            let shift = 128 - u32::from(bits);
            let same = a.checked_shr(shift).unwrap_or(0) == b.checked_shr(shift).unwrap_or(0);
            let address = |n: u128| Address::v6(n.to_be_bytes());
            prop_assert_eq!(has_prefix(address(a), address(b), bits), same);
            prop_assert!(has_prefix(prefix(address(a), bits), address(a), bits));
        }
    }
}
