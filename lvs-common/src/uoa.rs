//! UOA ("UDP option address"): TOA's counterpart for datagrams, as DPVS sends it in its `ipo` form: an option of the IPv4
//! header (RFC 791) with the client's port and address, of a kind that nobody else uses.

use crate::{
    byte_order::Be16,
    toa::{self, Options},
    verifier::Each,
};

/// The option's kind.
pub const KIND: u8 = 31;
/// Bytes of the option, kind and length included.
pub const LENGTH: usize = 8;
/// The most bytes of options an IPv4 header has.
pub const OPTIONS: usize = 40;

/// The option as words of memory.
#[inline(always)]
pub const fn option(address: u32, port: Be16) -> [u32; LENGTH / 4] {
    let [high, low] = port.word().to_ne_bytes();
    [u32::from_ne_bytes([KIND, LENGTH as u8, high, low]), address]
}

/// Whether an IPv4 header's options have one of that kind: they are written as TCP's are, padding and end included.
#[inline(always)]
pub fn is_among(options: &(impl Options + ?Sized), turns: &impl Each) -> bool {
    let (mut at, mut found) = (0, false);
    turns.each(OPTIONS as u32, &mut |_| {
        let Some((kind, length)) = toa::option(options, at) else { return true };
        found = kind == KIND;
        // As in `toa::find`.
        at = (at + length) & 63;
        found
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verifier::Plain;

    const UOA: [u8; 8] = [31, 8, 0x1f, 0x90, 192, 0, 2, 7];

    #[test]
    fn it_is_written_as_it_is_read() {
        let words = option(u32::from_ne_bytes([192, 0, 2, 7]), Be16::new(8080));
        assert_eq!([words[0].to_ne_bytes(), words[1].to_ne_bytes()].concat(), UOA);
    }

    #[test]
    fn it_is_found_wherever_it_stands() {
        let router_alert = [148, 4, 0, 0];
        assert!(is_among(&UOA[..], &Plain));
        assert!(is_among(&[&router_alert[..], &[1, 1, 1], &UOA].concat()[..], &Plain));
        assert!(is_among(&[31, 4, 0, 0][..], &Plain), "of any length");
        assert!(!is_among(&[&[0][..], &UOA].concat()[..], &Plain), "after the end");
        assert!(!is_among(&[&[148, 12, 0, 0][..], &UOA].concat()[..], &Plain), "inside another one");
        assert!(!is_among(&[31][..], &Plain) && !is_among(&[][..], &Plain));
    }
}
