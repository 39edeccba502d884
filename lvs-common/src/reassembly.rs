//! Which bytes of a fragmented packet have come.

use crate::verifier::Each;

/// Longest payload that is put together: what a packet of the kernel's can grow to in a BPF program.
pub const PAYLOAD: u32 = 16_384 - 512;

/// Words of [`Pieces`].
const WORDS: usize = 32;

/// The pieces of a payload, a bit for each eight bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Pieces {
    /// Eight bytes a bit.
    pub have: [u64; WORDS],
    /// Length of the whole payload, 0 while the last piece is missing.
    pub total: u32,
    /// Always 0.
    pub pad: u32,
}

/// What a piece does to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is needed, and others still are.
    Waiting,
    /// It was the last one missing.
    Complete,
    /// It was there already.
    Duplicate,
    /// It overlaps others or contradicts them: the packet is given up (RFC 5722).
    Overlap,
    /// The packet would be too long.
    TooLong,
}

/// The lowest `n` bits, all for 64 and more, none for less than 1.
#[inline(always)]
const fn lowest(n: i64) -> u64 {
    match n {
        ..=0 => 0,
        64.. => u64::MAX,
        _ => (1 << (n as u32 & 63)) - 1,
    }
}

/// The bits of word `word` among those from `from` to `to`.
#[inline(always)]
const fn mask(word: u32, from: u32, to: u32) -> u64 {
    let first = word as i64 * 64;
    lowest(to as i64 - first) & !lowest(from as i64 - first)
}

impl Pieces {
    /// Adds the piece of `length` bytes at `offset`; `more` pieces follow it.
    #[inline(always)]
    pub fn add(&mut self, offset: u32, length: u32, more: bool, each: impl Each) -> Added {
        let end = offset.wrapping_add(length);
        if length == 0 || more && length & 7 != 0 || offset & 7 != 0 {
            return Added::Overlap;
        }
        if end > PAYLOAD {
            return Added::TooLong;
        }
        if self.total != 0 && (end > self.total || !more && end != self.total) {
            return Added::Overlap;
        }
        let (from, to) = (offset / 8, end.div_ceil(8));
        let (mut clash, mut new) = (0, 0);
        each.each(WORDS as u32, &mut |word| {
            let bits = mask(word, from, to);
            let had = self.have.get(word as usize & (WORDS - 1)).copied().unwrap_or(0);
            clash |= had & bits;
            new |= bits & !had;
            false
        });
        if clash != 0 {
            return if new == 0 { Added::Duplicate } else { Added::Overlap };
        }
        if !more {
            self.total = end;
        }
        let all = self.total.div_ceil(8);
        let mut missing = (self.total == 0) as u64;
        each.each(WORDS as u32, &mut |word| {
            if let Some(have) = self.have.get_mut(word as usize & (WORDS - 1)) {
                *have |= mask(word, from, to);
                missing |= mask(word, 0, all) & !*have;
            }
            false
        });
        if missing != 0 { Added::Waiting } else { Added::Complete }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::verifier::Plain;

    #[test]
    fn pieces_complete_in_any_order_and_overlaps_do_not() {
        let mut p = Pieces::default();
        assert_eq!(p.add(800, 208, false, Plain), Added::Waiting);
        assert_eq!(p.add(400, 400, true, Plain), Added::Waiting);
        assert_eq!(p.add(400, 400, true, Plain), Added::Duplicate);
        assert_eq!(p.add(392, 16, true, Plain), Added::Overlap);
        assert_eq!(p.add(0, 400, true, Plain), Added::Complete);
        assert_eq!(Pieces::default().add(PAYLOAD - 8, 16, true, Plain), Added::TooLong);
        assert_eq!(Pieces::default().add(0, 0, true, Plain), Added::Overlap);
    }

    proptest! {
        #[test]
        fn a_cut_packet_is_complete_exactly_with_its_last_piece(
            length in 1u32..PAYLOAD, step in 1u32..300, order: u64,
        ) {
            let step = step * 8;
            let mut offsets: Vec<u32> = (0..length.div_ceil(step)).map(|n| n * step).collect();
            fastrand::Rng::with_seed(order).shuffle(&mut offsets);
            let mut p = Pieces::default();
            for (n, offset) in offsets.iter().enumerate() {
                let more = offset + step < length;
                let added = p.add(*offset, step.min(length - offset), more, Plain);
                let expected = if n + 1 == offsets.len() { Added::Complete } else { Added::Waiting };
                prop_assert_eq!(added, expected);
            }
            prop_assert_eq!(p.total, length);
        }
    }
}
