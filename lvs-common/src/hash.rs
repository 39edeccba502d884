//! SipHash: the Maglev scheduler's keyed hash, and the one that makes numbers which nobody else can.

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SipKey(pub u64, pub u64);

/// The four words of state.
struct Sip([u64; 4]);

impl Sip {
    #[inline(always)]
    fn new(key: SipKey) -> Self {
        Sip([
            key.0 ^ 0x736f_6d65_7073_6575,
            key.1 ^ 0x646f_7261_6e64_6f6d,
            key.0 ^ 0x6c79_6765_6e65_7261,
            key.1 ^ 0x7465_6462_7974_6573,
        ])
    }

    /// Takes up eight bytes of the message.
    #[inline(always)]
    fn absorb(&mut self, block: u64, rounds: u32) {
        self.0[3] ^= block;
        self.rounds(rounds);
        self.0[0] ^= block;
    }

    #[inline(always)]
    fn finish(mut self, rounds: u32) -> u64 {
        self.0[2] ^= 0xff;
        self.rounds(rounds);
        let [a, b, c, d] = self.0;
        a ^ b ^ c ^ d
    }

    #[inline(always)]
    fn rounds(&mut self, count: u32) {
        for _ in 0..count {
            self.round();
        }
    }

    #[inline(always)]
    fn round(&mut self) {
        let [mut a, mut b, mut c, mut d] = self.0;
        a = a.wrapping_add(b);
        b = b.rotate_left(13) ^ a;
        a = a.rotate_left(32);
        c = c.wrapping_add(d);
        d = d.rotate_left(16) ^ c;
        a = a.wrapping_add(d);
        d = d.rotate_left(21) ^ a;
        c = c.wrapping_add(b);
        b = b.rotate_left(17) ^ c;
        c = c.rotate_left(32);
        self.0 = [a, b, c, d];
    }
}

/// SipHash-1-3 of one 32-bit word (the four bytes of its little-endian form), lower half of the result: the kernel's
/// `hsiphash` on 64-bit machines.
#[inline(always)]
pub fn siphash13(word: u32, key: SipKey) -> u32 {
    let mut sip = Sip::new(key);
    // A message of four bytes is a single block, its length in the top byte.
    sip.absorb((4 << 56) | word as u64, 1);
    sip.finish(3) as u32
}

/// SipHash-2-4 of 64-bit words (in their little-endian form): what it says of one message tells nothing of any other
/// without the key.
#[inline(always)]
pub fn siphash24<const N: usize>(words: [u64; N], key: SipKey) -> u64 {
    let mut sip = Sip::new(key);
    for word in words {
        sip.absorb(word, 2);
    }
    sip.absorb((N as u64 * 8) << 56, 2);
    sip.finish(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(deprecated, reason = "the library's SipHash-2-4, to compare with")]
    fn words_are_hashed_as_the_library_does() {
        use std::hash::{Hasher, SipHasher};
        let (key, words) = (SipKey(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908), [1, u64::MAX, 0x8000_0000_0000_0000]);
        let mut hasher = SipHasher::new_with_keys(key.0, key.1);
        words.iter().for_each(|word: &u64| hasher.write(&word.to_le_bytes()));
        assert_eq!(siphash24(words, key), hasher.finish());
        // The reference implementation's vector for the bytes 0 to 7.
        assert_eq!(siphash24([0x0706_0504_0302_0100], key), 0x93f5_f579_9a93_2462);
    }

    #[test]
    fn it_hashes_as_the_kernel_does() {
        assert_eq!(siphash13(1, SipKey(2_654_435_761, 2_654_435_761)), 0x16ec_66b2);
        assert_eq!(siphash13(0, SipKey(2_654_446_892, 2_654_446_892)), 0xf882_433f);
    }
}
