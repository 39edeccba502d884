//! What the director stores of an established TCP connection to be able to reset it when it expires (`conn_expire_tcp_rst`):
//! sequence numbers that both ends accept (RFC 5961, section 3: only those that they expect).
//!
//! The client's packets, which pass the director in every mode, have both numbers: where the client's data ends, and what it
//! expects next.

use crate::wire::tcp_flags;

/// The numbers, in host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// What the real server expects next from the client.
    pub from_client: u32,
    /// What the client expects next from the real server.
    pub from_server: u32,
}

impl Numbers {
    /// As a word of memory; 0 stands for none.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        (self.from_server as u64) << 32 | self.from_client as u64
    }

    /// From that word.
    #[inline(always)]
    pub const fn of(word: u64) -> Option<Self> {
        if word == 0 { None } else { Some(Numbers { from_client: word as u32, from_server: (word >> 32) as u32 }) }
    }
}

/// The later of two sequence numbers (RFC 9293, section 3.4).
#[inline(always)]
const fn later(a: u32, b: u32) -> u32 {
    if (b.wrapping_sub(a) as i32) > 0 { b } else { a }
}

/// The word after a client's segment with `length` bytes of data.
#[inline(always)]
pub const fn seen(word: u64, flags: u8, sequence: u32, acknowledgment: u32, length: u32) -> u64 {
    match flags & (tcp_flags::SYN | tcp_flags::RST | tcp_flags::ACK) {
        tcp_flags::ACK => {}
        tcp_flags::SYN => return 0,
        _ => return word,
    }
    let now = Numbers { from_client: sequence.wrapping_add(length), from_server: acknowledgment };
    match Numbers::of(word) {
        None => now.word(),
        Some(before) => Numbers {
            from_client: later(before.from_client, now.from_client),
            from_server: later(before.from_server, now.from_server),
        }
        .word(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use tcp_flags::{ACK, RST, SYN};

    #[test]
    fn a_word_holds_both() {
        let numbers = Numbers { from_client: 7, from_server: u32::MAX };
        assert_eq!(Numbers::of(numbers.word()), Some(numbers));
        assert_eq!(Numbers::of(0), None);
    }

    #[test]
    fn only_acknowledging_segments_count() {
        let word = seen(0, ACK, 10, 20, 5);
        assert_eq!(Numbers::of(word), Some(Numbers { from_client: 15, from_server: 20 }));
        assert_eq!(seen(word, RST | ACK, 99, 99, 0), word);
        assert_eq!(seen(word, 0, 99, 99, 9), word);
        assert_eq!(seen(word, SYN, 99, 0, 0), 0, "another connection begins");
        // A probe for life is after the last byte.
        assert_eq!(seen(word, ACK, 14, 20, 1), word);
    }

    proptest! {
        #[test]
        fn the_last_numbers_win_in_any_order(start: u32, other: u32, mut steps in prop::collection::vec((0u32..1 << 20, 0u32..1 << 20, 0u32..1500), 1..20), seed: u64) {
            let farthest = steps.iter().map(|(ahead, _, length)| ahead + length).max().unwrap();
            let expected = steps.iter().map(|(_, ahead, _)| *ahead).max().unwrap();
            let turn = (seed as usize) % steps.len();
            steps.rotate_left(turn);
            let word = steps.iter().fold(0, |word, (ahead, acknowledged, length)| {
                seen(word, ACK, start.wrapping_add(*ahead), other.wrapping_add(*acknowledged), *length)
            });
            let all = Numbers { from_client: start.wrapping_add(farthest), from_server: other.wrapping_add(expected) };
            prop_assert_eq!(word, all.word());
        }
    }
}
