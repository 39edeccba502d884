//! Keyed hash of the Maglev scheduler: the kernel's `hsiphash` on 64-bit machines, SipHash-1-3 cut to 32 bits.

/// A key of [`siphash13`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SipKey(pub u64, pub u64);

/// The four words of state.
struct Sip([u64; 4]);

impl Sip {
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

/// SipHash-1-3 of one 32-bit word (the four bytes of its little-endian form), lower half of the result.
#[inline(always)]
pub fn siphash13(word: u32, key: SipKey) -> u32 {
    // A message of four bytes is a single block, its length in the top byte.
    let block = (4 << 56) | word as u64;
    let mut sip = Sip([
        key.0 ^ 0x736f_6d65_7073_6575,
        key.1 ^ 0x646f_7261_6e64_6f6d,
        key.0 ^ 0x6c79_6765_6e65_7261,
        key.1 ^ 0x7465_6462_7974_6573,
    ]);
    sip.0[3] ^= block;
    sip.round();
    sip.0[0] ^= block;
    sip.0[2] ^= 0xff;
    sip.round();
    sip.round();
    sip.round();
    let [a, b, c, d] = sip.0;
    (a ^ b ^ c ^ d) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_hashes_as_the_kernel_does() {
        assert_eq!(siphash13(1, SipKey(2_654_435_761, 2_654_435_761)), 0x16ec_66b2);
        assert_eq!(siphash13(0, SipKey(2_654_446_892, 2_654_446_892)), 0xf882_433f);
    }
}
