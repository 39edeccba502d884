//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624), and SCTP's CRC32c (RFC 9260, appendix A).
//!
//! Sums are kept as a plain `u32`/`u64` accumulation of 16-bit words in the order they stand in memory: one's complement
//! addition does not care for byte order as long as every word is read the same way.

use crate::byte_order::Word;

/// Folds an accumulated sum to 16 bits.
#[inline(always)]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// What replacing the word `old` by `new` adds to a sum: words of any width up to 32 bits.
#[inline(always)]
pub fn difference<W: Word>(old: W, new: W) -> u64 {
    (!old.memory()) as u64 + new.memory() as u64
}

/// A sum of words that begin at an odd place of what a checksum is over: their bytes are the others' halves.
#[inline(always)]
pub const fn shifted(sum: u64) -> u64 {
    (fold(sum) as u64) << 8
}

/// Applies an accumulated [`difference`] to a checksum field (RFC 1624, equation 3).
#[inline(always)]
pub const fn update(check: u16, difference: u64) -> u16 {
    !fold((!check) as u64 + difference)
}

/// As [`update`] for a UDP checksum that is in use (not 0): a result of 0 is sent as 0xffff (RFC 768).
#[inline(always)]
pub const fn update_udp(check: u16, difference: u64) -> u16 {
    match update(check, difference) {
        0 => 0xffff,
        check => check,
    }
}

/// The sum of `bytes` as words in memory order, an odd last byte padded with 0.
pub fn sum(bytes: &[u8]) -> u64 {
    bytes.chunks(2).map(|w| u16::from_ne_bytes([w[0], w.get(1).copied().unwrap_or(0)]) as u64).sum()
}

/// CRC32c's polynomial, bits reversed.
const CRC32C: u32 = 0x82f6_3b78;

/// Product of two polynomials modulo CRC32c's, in the reversed representation (bit 31 is x^0).
#[inline(always)]
const fn multiply(mut a: u32, b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 0;
    // Masks instead of branches: the verifier would follow both sides of each.
    while bit < 32 {
        product ^= a & ((b >> (31 - bit)) & 1).wrapping_neg();
        a = (a >> 1) ^ (CRC32C & (a & 1).wrapping_neg());
        bit += 1;
    }
    product
}

/// x^(8 * 2^i) modulo the polynomial, for i in 0..16: what 2^i bytes of zeros multiply a remainder by.
static BYTE_POWERS: [u32; 16] = {
    let mut table = [0; 16];
    let mut power = 0x0080_0000;
    let mut i = 0;
    while i < 16 {
        table[i] = power;
        power = multiply(power, power);
        i += 1;
    }
    table
};

/// Steps of [`crc32c_difference`].
pub const CRC32C_STEPS: u32 = 17;

/// Step `step` of [`crc32c_difference`]. The first moves the remainder past the four bytes themselves, which the register
/// takes up as bytes times x^32; each other one past 2^(step - 1) bytes if `after` has that bit.
#[inline(always)]
pub fn crc32c_step(remainder: u32, after: u32, step: u32) -> u32 {
    let (length, bit) = if step == 0 { (4, 2) } else { (after, step.wrapping_sub(1)) };
    match BYTE_POWERS.get(bit as usize) {
        Some(power) if length & (1 << (bit & 31)) != 0 => multiply(remainder, *power),
        _ => remainder,
    }
}

/// What changes in the CRC32c of a message when the four bytes `old` (little endian) become `new` with `after` bytes
/// (at most 65,535) following them; XOR it to the CRC. Saves reading a whole SCTP packet because of its ports.
pub fn crc32c_difference(old: u32, new: u32, after: u32) -> u32 {
    (0..CRC32C_STEPS).fold(old ^ new, |remainder, step| crc32c_step(remainder, after, step))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn crc32c(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc, byte| {
            (0..8).fold(crc ^ *byte as u32, |c, _| if c & 1 != 0 { (c >> 1) ^ CRC32C } else { c >> 1 })
        })
    }

    #[test]
    fn the_crc_is_crc32c() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    proptest! {
        #[test]
        fn an_update_is_a_recomputation(mut bytes in prop::collection::vec(any::<u8>(), 8..200), at in 0usize..100, new: u32) {
            bytes.truncate(bytes.len() / 4 * 4);
            let at = at % (bytes.len() / 4) * 4;
            let before = !fold(sum(&bytes));
            let old = u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
            bytes[at..at + 4].copy_from_slice(&new.to_ne_bytes());
            let after = !fold(sum(&bytes));
            let updated = update(before, difference(old, new));
            // One's complement has two zeros; both verify.
            prop_assert!(updated == after || (updated | after == 0xffff && updated & after == 0));
            prop_assert_ne!(update_udp(before, difference(old, new)), 0);
        }

        #[test]
        fn an_update_at_an_odd_place_is_one_too(mut bytes in prop::collection::vec(any::<u8>(), 8..60), at in 0usize..100, new: u32) {
            bytes.truncate(bytes.len() / 2 * 2);
            let at = at % (bytes.len() - 3);
            let before = !fold(sum(&bytes));
            let old = u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
            bytes[at..at + 4].copy_from_slice(&new.to_ne_bytes());
            let change = difference(old, new);
            let updated = update(before, if at % 2 == 0 { change } else { shifted(change) });
            let after = !fold(sum(&bytes));
            prop_assert!(updated == after || (updated | after == 0xffff && updated & after == 0));
        }

        #[test]
        fn a_crc_update_is_a_recomputation(mut bytes in prop::collection::vec(any::<u8>(), 4..3000), at: usize, new: u32) {
            let at = at % (bytes.len() - 3);
            let before = crc32c(&bytes);
            let old = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            bytes[at..at + 4].copy_from_slice(&new.to_le_bytes());
            let after = (bytes.len() - at - 4) as u32;
            prop_assert_eq!(before ^ crc32c_difference(old, new, after), crc32c(&bytes));
        }
    }
}
