//! The answer to floods of TCP SYNs with forged sources: a challenge that only a host at the source address can answer. The
//! director stores nothing until the answer comes.
//!
//! The director answers a SYN with a bare ACK that acknowledges nothing the client has sent. A client in SYN-SENT must answer
//! that by a RST whose sequence number is the ACK's acknowledgement number, and stays in SYN-SENT (RFC 9293 §3.10.7.3). The
//! number is a keyed hash of the connection's ends and the time, so the RST proves that its source receives packets.

use crate::abi::IpAddress;
use crate::abi::sysctls::MAX_RATE;
use crate::byte_order::Be16;
use crate::hash::{SipKey, siphash24};
use crate::wire::tcp_flags;

/// Seconds that a number is made for. It is good for as long again.
const PERIOD: u64 = 64;

/// Seconds that a source's verification lasts.
const LIFETIME: u32 = 600;

/// The bit that tells a cookie's two numbers apart.
const OTHER: u32 = 1 << 31;

/// What a SYN may have sent at most: 64 KiB of data after its own number (RFC 7413). Acknowledging that would be no
/// challenge.
const SENT: u32 = 1 << 16;

/// Bits of [`spend`]'s word that count.
const COUNT_BITS: u32 = 20;

/// [`spend`] keeps every rate that the settings take.
const _: () = assert!(MAX_RATE == (1 << COUNT_BITS) - 1);

/// The ends of a connection in its client's packets, as they stand there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the packet's")]
pub struct Flow<A> {
    pub source: A,
    pub destination: A,
    pub source_port: Be16,
    pub destination_port: Be16,
}

impl<A: IpAddress> Flow<A> {
    /// The hash that the numbers of a period are made of.
    #[inline(always)]
    fn cookie(&self, period: u64, key: SipKey) -> u32 {
        let ports = self.source_port.word() as u64 | (self.destination_port.word() as u64) << 16 | period << 32;
        let (s, d) = (self.source.widen().0, self.destination.widen().0);
        let pair = |low: u32, high: u32| low as u64 | (high as u64) << 32;
        if A::HEADER == 20 {
            return siphash24([pair(s[0], d[0]), ports], key) as u32;
        }
        siphash24([pair(s[0], s[1]), pair(s[2], s[3]), pair(d[0], d[1]), pair(d[2], d[3]), ports], key) as u32
    }

    /// The acknowledgement number that challenges a SYN with the sequence number `sequence` at `second` of any clock (both in
    /// host order).
    #[inline(always)]
    pub fn challenge(&self, sequence: u32, second: u64, key: SipKey) -> u32 {
        let cookie = self.cookie(second / PERIOD, key);
        if cookie.wrapping_sub(sequence).wrapping_sub(1) < SENT { cookie ^ OTHER } else { cookie }
    }

    /// Whether a RST with this sequence number (host order) answers a challenge of the last minute or two.
    #[inline(always)]
    pub fn is_answer(&self, sequence: u32, second: u64, key: SipKey) -> bool {
        let period = second / PERIOD;
        let is_of = |period| (self.cookie(period, key) ^ sequence) & !OTHER == 0;
        is_of(period) || is_of(period.wrapping_sub(1))
    }
}

/// Whether a segment with these flags asks for a connection and does nothing else, so that whoever sent it waits for an
/// answer.
#[inline(always)]
pub const fn is_request(flags: u8) -> bool {
    flags & (tcp_flags::SYN | tcp_flags::ACK | tcp_flags::RST | tcp_flags::FIN) == tcp_flags::SYN
}

/// What is known of a source that has answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Verified {
    /// The second of its last answer.
    pub second: u32,
    /// Its requests: see [`spend`].
    pub requests: u32,
}

impl Verified {
    /// Whether its answer still counts.
    #[inline(always)]
    pub const fn is_valid(&self, second: u64) -> bool {
        (second as u32).wrapping_sub(self.second) < LIFETIME
    }
}

/// What a source is remembered by: an IPv4 address, or the first half of an IPv6 one. Who has one address of an IPv6 network
/// of 64 bits can have them all, and so cannot multiply by them.
#[inline(always)]
pub fn source<A: IpAddress>(address: A) -> u64 {
    let [first, second, ..] = address.widen().0;
    // ffff::/16 is groups', so no IPv6 source begins like this.
    let (first, second) = if A::HEADER == 20 { (u32::MAX, first) } else { (first, second) };
    first as u64 | (second as u64) << 32
}

/// Takes one of the `rate` that there are in every second: the word that counts them then, or `None` where none is left. The
/// word holds the lower bits of its second above the count, and begins as 0.
#[inline(always)]
pub const fn spend(word: u32, second: u64, rate: u32) -> Option<u32> {
    let this = (second as u32) << COUNT_BITS;
    let spent = if word & !MAX_RATE == this { word & MAX_RATE } else { 0 };
    if spent < rate && spent < MAX_RATE { Some(this | (spent + 1)) } else { None }
}

/// Whether a table for `capacity` connections that had `held` of them a moment ago has room for some that may be nobody's: the
/// other half is for verified sources.
#[inline(always)]
pub const fn has_room(held: u32, capacity: u32) -> bool {
    held < capacity / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::Address;
    use proptest::prelude::*;

    const KEY: SipKey = SipKey(0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210);

    fn flow4() -> impl Strategy<Value = Flow<u32>> {
        any::<(u32, u32, u16, u16)>().prop_map(|(source, destination, source_port, destination_port)| Flow {
            source,
            destination,
            source_port: Be16::from_word(source_port),
            destination_port: Be16::from_word(destination_port),
        })
    }

    fn flow6() -> impl Strategy<Value = Flow<[u32; 4]>> {
        any::<([u32; 4], [u32; 4], u16, u16)>().prop_map(|(source, destination, source_port, destination_port)| Flow {
            source,
            destination,
            source_port: Be16::from_word(source_port),
            destination_port: Be16::from_word(destination_port),
        })
    }

    /// A sequence number that makes the flow's challenge one of those that a SYN with data could have meant.
    fn unlucky<A: IpAddress>(flow: &Flow<A>, second: u64, sent: u32) -> u32 {
        flow.cookie(second / PERIOD, KEY).wrapping_sub(sent)
    }

    fn is_answered_in_time<A: IpAddress>(flow: &Flow<A>, sequence: u32, second: u64, later: u64) {
        let number = flow.challenge(sequence, second, KEY);
        let answered = flow.is_answer(number, second + later, KEY);
        if later <= PERIOD {
            assert!(answered);
        }
        assert!(!(later >= 2 * PERIOD && answered));
    }

    proptest! {
        #[test]
        fn a_challenge_is_answered_by_its_number(flow in flow4(), sequence: u32, second in 0..u64::MAX >> 1, later in 0..200u64) {
            is_answered_in_time(&flow, sequence, second, later);
        }

        #[test]
        fn so_it_is_over_ipv6(flow in flow6(), sequence: u32, second in 0..u64::MAX >> 1, later in 0..200u64) {
            is_answered_in_time(&flow, sequence, second, later);
        }

        // RFC 9293 §3.10.7.3: what lies above what was acknowledged and not above what was sent is acceptable, and a client
        // that gets it says nothing.
        #[test]
        fn a_challenge_acknowledges_nothing(flow in flow4(), lucky: u32, sent in 0..=SENT, second in 0..1u64 << 40) {
            for sequence in [lucky, unlucky(&flow, second, sent)] {
                let number = flow.challenge(sequence, second, KEY);
                prop_assert!(number.wrapping_sub(sequence) as i32 <= 0 || number.wrapping_sub(sequence) > SENT);
                prop_assert!(flow.is_answer(number, second, KEY));
            }
        }

        #[test]
        fn a_number_is_of_one_flow_only(flow in flow6(), other in flow6(), sequence: u32, second in 0..1u64 << 40) {
            let number = flow.challenge(sequence, second, KEY);
            let reversed = Flow { source: flow.destination, destination: flow.source, ..flow };
            let swapped = Flow { source_port: flow.destination_port, destination_port: flow.source_port, ..flow };
            for other in [other, reversed, swapped].into_iter().filter(|other| *other != flow) {
                prop_assert!(!other.is_answer(number, second, KEY));
            }
            prop_assert!(!flow.is_answer(number, second, SipKey(KEY.0 ^ 1, KEY.1)));
            prop_assert!(!flow.is_answer(number ^ 1, second, KEY));
        }

        // As many as there are in a second are spent in it, from whatever the word was before.
        #[test]
        fn a_second_has_its_rate(word: u32, second: u64, rate in 0..3000u32) {
            let mut word = if word & !MAX_RATE == (second as u32) << COUNT_BITS { 0 } else { word };
            for second in [second, second.wrapping_add(1)] {
                for _ in 0..rate {
                    word = spend(word, second, rate).expect("not yet spent");
                }
                prop_assert_eq!(spend(word, second, rate), None);
            }
        }
    }

    #[test]
    fn the_greatest_rate_is_no_more_than_is_counted() {
        let word = 7 << COUNT_BITS | (MAX_RATE - 1);
        let last = spend(word, 7, u32::MAX).unwrap();
        assert_eq!(spend(last, 7, u32::MAX), None);
        assert_eq!(spend(last, 8, u32::MAX), Some(8 << COUNT_BITS | 1));
    }

    #[test]
    fn a_verification_lasts_ten_minutes() {
        let verified = Verified { second: 1000, requests: 0 };
        assert!([1000, 1001, 1599].iter().all(|&second| verified.is_valid(second)));
        assert!([1600, 999, 5000].iter().all(|&second| !verified.is_valid(second)));
        let young = Verified { second: u32::MAX, requests: 0 };
        assert!(young.is_valid(u64::from(u32::MAX) + 10));
    }

    #[test]
    fn an_ipv6_network_is_one_source_and_no_ipv4_address() {
        let v6 = |text: &str| source(Address::v6(text.parse::<std::net::Ipv6Addr>().unwrap().octets()).0);
        let v4 = |octets| source(u32::narrow(Address::v4(octets)));
        assert_eq!(v6("2001:db8:1:2::1"), v6("2001:db8:1:2:ffff::"));
        assert_ne!(v6("2001:db8:1:2::1"), v6("2001:db8:1:3::1"));
        assert_ne!(v4([192, 0, 2, 1]), v4([192, 0, 2, 2]));
        assert_eq!(v4([192, 0, 2, 1]), v6("ffff:ffff:c000:201::"));
    }

    #[test]
    fn what_asks_does_nothing_else() {
        const ECN: u8 = 0xc0;
        assert!([tcp_flags::SYN, tcp_flags::SYN | ECN].into_iter().all(is_request));
        let others = [tcp_flags::ACK, tcp_flags::RST, tcp_flags::FIN];
        assert!(others.into_iter().all(|flag| !is_request(flag) && !is_request(flag | tcp_flags::SYN)));
    }
}
