//! Which ports of a local address FullNAT may give out.
//!
//! Those from `lport_min` to `lport_max`, but, where the host itself has the address, none of those that it gives out for
//! its own connections (`ip_local_port_range`): they could be to the same real server.

use crate::abi::{CHUNK_PORTS, LocalAddress};

/// Ports from `first` to `last`, host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

/// The bits of word `word` (64 ports each) that stand for ports within `range`.
#[inline(always)]
const fn within(word: u32, range: Range) -> u64 {
    let begin = word.wrapping_mul(64);
    let (first, last) = (range.first as u32, range.last as u32);
    if last < begin || first > begin + 63 || last < first {
        return 0;
    }
    let low = first.saturating_sub(begin) & 63;
    let high = if last > begin + 63 { 63 } else { last - begin };
    (u64::MAX << low) & (u64::MAX >> ((63 - high) & 63))
}

/// The bits of word `word` of all ports that stand for ports which are not to be given out.
#[inline(always)]
pub const fn reserved(word: u32, local: &LocalAddress, give: Range) -> u64 {
    let host = Range { first: local.host_first, last: local.host_last };
    let hosts = if local.host_last == 0 { 0 } else { within(word, host) };
    // Port 0 is none.
    !within(word, give) | hosts | (word == 0) as u64
}

/// First and last of the ports that two ranges have in common, and how many these are.
#[inline(always)]
const fn common(a: Range, b: (u32, u32)) -> (u32, u32, u32) {
    let first = if a.first as u32 > b.0 { a.first as u32 } else { b.0 };
    let last = if (a.last as u32) < b.1 { a.last as u32 } else { b.1 };
    (first, last, if last < first { 0 } else { last - first + 1 })
}

/// How many ports of chunk `chunk` may be given out.
#[inline(always)]
pub const fn available(chunk: u32, local: &LocalAddress, give: Range) -> u32 {
    let begin = chunk * CHUNK_PORTS;
    // Port 0 is none.
    let (first, last, all) = common(give, (if begin == 0 { 1 } else { begin }, begin + CHUNK_PORTS - 1));
    if local.host_last == 0 || all == 0 {
        return all;
    }
    all - common(Range { first: local.host_first, last: local.host_last }, (first, last)).2
}

/// The lowest bit that is not set, as a number from 0 to 63; only of a word that is not full.
#[inline(always)]
pub const fn lowest_free(word: u64) -> u32 {
    // A shift by halves: the BPF target has no instruction for it.
    let mut rest = word;
    let mut at = 0;
    let mut width = 32;
    while width != 0 {
        let mask = (1u64 << width) - 1;
        let full = (rest & mask == mask) as u32;
        at += full * width;
        rest >>= full * width;
        width /= 2;
    }
    at
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::abi::CHUNKS;

    fn given_out(local: &LocalAddress, give: Range) -> Vec<u32> {
        (0..1024u32)
            .flat_map(|word| {
                let bits = reserved(word, local, give);
                (0..64).filter(move |bit| bits >> bit & 1 == 0).map(move |bit| word * 64 + bit)
            })
            .collect()
    }

    proptest! {
        #[test]
        fn exactly_the_ports_in_range_that_are_not_the_hosts(first: u16, last: u16, host_first: u16, host_last: u16) {
            let local = LocalAddress { host_first, host_last, ..Default::default() };
            let give = Range { first, last };
            let is_hosts = |port| host_last != 0 && (host_first..=host_last).contains(&port);
            let expected: Vec<u32> =
                (1..=65535u16).filter(|port| (first..=last).contains(port) && !is_hosts(*port)).map(u32::from).collect();
            let counted = (0..CHUNKS).map(|chunk| available(chunk, &local, give)).sum::<u32>();
            prop_assert_eq!(counted as usize, expected.len());
            prop_assert_eq!(given_out(&local, give), expected);
        }

        #[test]
        fn the_lowest_free_bit_is_found(word: u64, ones in 0u32..64) {
            for word in [word, (1 << ones) - 1, !(1 << ones)] {
                if word != u64::MAX {
                    prop_assert_eq!(lowest_free(word), word.trailing_ones());
                }
            }
        }
    }
}
