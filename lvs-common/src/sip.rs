//! SIP's Call-ID (RFC 3261 §20.8), by which the persistence engine `sip` tells dialogs apart.

use crate::verifier::{Each, Plain};

/// Longest Call-ID that a template is made of, bytes; a longer one makes none.
pub const LONGEST: u32 = 255;

/// The header's name in lower case, and its compact form.
const NAME: [u8; 7] = *b"call-id";
const COMPACT: u8 = b'i';

/// Where the value stands in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallId {
    /// Offset of its first byte.
    pub at: u32,
    /// Its length, bytes: 1 to [`LONGEST`].
    pub length: u32,
    /// A hash of it.
    pub hash: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Within a line of no interest.
    Elsewhere,
    /// At the beginning of a line.
    LineStart,
    /// So many letters of the name were met.
    Name,
    /// Behind the compact name, which no letter may follow.
    Compact,
    /// Behind the name, before the colon.
    Named,
    /// Behind the colon, before the value.
    Colon,
    /// Within the value.
    Value,
    /// Behind it.
    Done,
    /// There is none.
    Failed,
}

/// A search for the value: what is known after a byte.
pub struct Scan {
    place: Place,
    letters: u32,
    at: u32,
    length: u32,
    hash: u64,
    /// How many bytes of the part after the `@`, plus 1; 0 before it.
    domain: u32,
}

/// Whether a byte may be part of a word (RFC 3261 §25.1).
#[inline(always)]
const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'!'
                | b'%'
                | b'*'
                | b'_'
                | b'+'
                | b'`'
                | b'\''
                | b'~'
                | b'('
                | b')'
                | b'<'
                | b'>'
                | b':'
                | b'\\'
                | b'"'
                | b'/'
                | b'['
                | b']'
                | b'?'
                | b'{'
                | b'}'
        )
}

impl Scan {
    /// Before the first byte.
    #[inline(always)]
    pub const fn new(secret: u64) -> Self {
        Scan { place: Place::Elsewhere, letters: 0, at: 0, length: 0, hash: secret | 1, domain: 0 }
    }

    /// Takes the byte at `at`.
    #[inline(always)]
    fn step(&mut self, at: u32, byte: u8) {
        let blank = byte == b' ' || byte == b'\t';
        self.place = match self.place {
            Place::Elsewhere => end_of_line(byte),
            // A line that begins with a blank continues the one before.
            Place::LineStart if byte == b'\n' || byte == b'\r' => Place::LineStart,
            Place::LineStart | Place::Name => {
                let wanted = NAME.get(self.letters as usize & 7).copied().unwrap_or(0);
                let first = matches!(self.place, Place::LineStart);
                match byte.to_ascii_lowercase() {
                    letter if letter == wanted => {
                        self.letters = self.letters.wrapping_add(1);
                        if self.letters == NAME.len() as u32 { Place::Named } else { Place::Name }
                    }
                    COMPACT if first => Place::Compact,
                    _ => end_of_line(byte),
                }
            }
            Place::Compact if byte.is_ascii_alphabetic() => Place::Elsewhere,
            Place::Compact | Place::Named => match byte {
                b':' => Place::Colon,
                _ if blank => Place::Named,
                _ => Place::Failed,
            },
            Place::Colon if blank => Place::Colon,
            Place::Colon if is_word(byte) => {
                self.at = at;
                self.take(byte)
            }
            Place::Colon => Place::Failed,
            Place::Value if is_word(byte) => {
                if self.domain != 0 {
                    self.domain = self.domain.wrapping_add(1);
                }
                self.take(byte)
            }
            Place::Value if byte == b'@' && self.domain == 0 => {
                self.domain = 1;
                self.take(byte)
            }
            Place::Value => Place::Done,
            done => done,
        };
        if !matches!(self.place, Place::Name) {
            self.letters = if matches!(self.place, Place::Named) { NAME.len() as u32 } else { 0 };
        }
    }

    /// Adds a byte to the value.
    #[inline(always)]
    fn take(&mut self, byte: u8) -> Place {
        self.length = self.length.wrapping_add(1);
        self.hash = (self.hash ^ byte as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.hash ^= self.hash >> 29;
        if self.length > LONGEST { Place::Failed } else { Place::Value }
    }
}

/// Where a byte of a line of no interest leads.
#[inline(always)]
const fn end_of_line(byte: u8) -> Place {
    if byte == b'\n' || byte == b'\r' { Place::LineStart } else { Place::Elsewhere }
}

/// Finds the Call-ID of a message of `length` bytes with a new `scan`; `byte` tells each. The request line is no header.
#[inline(always)]
pub fn call_id(length: u32, scan: &mut Scan, each: impl Each, byte: impl Fn(u32) -> u8) -> Option<CallId> {
    each.each(length, &mut |at| {
        scan.step(at, byte(at));
        matches!(scan.place, Place::Done | Place::Failed)
    });
    // The message may end with the value. A value that ends with its `@` is none.
    let ended = matches!(scan.place, Place::Done | Place::Value);
    if !ended || scan.length == 0 || scan.domain == 1 {
        return None;
    }
    // 0 stands for no engine.
    Some(CallId { at: scan.at, length: scan.length, hash: scan.hash | 1 << 63 })
}

/// The hash of a Call-ID that stands by itself; `None` for what is none.
pub fn hash(text: &[u8], secret: u64) -> Option<u64> {
    let mut scan = Scan { place: Place::Colon, ..Scan::new(secret) };
    let found = call_id(text.len() as u32, &mut scan, Plain, |at| text.get(at as usize).copied().unwrap_or(0))?;
    (found.length as usize == text.len()).then_some(found.hash)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn find(message: &str) -> Option<&str> {
        let bytes = message.as_bytes();
        let found = call_id(bytes.len() as u32, &mut Scan::new(7), Plain, |at| bytes[at as usize])?;
        Some(&message[found.at as usize..][..found.length as usize])
    }

    #[test]
    fn a_call_id_has_one_hash_wherever_it_stands() {
        for id in ["843817637684230@998sdasdh09", "a", "<x>@[::1]"] {
            let message = format!("INVITE sip:a@b SIP/2.0\r\nCall-ID: {id}\r\n\r\n");
            let bytes = message.as_bytes();
            let found = call_id(bytes.len() as u32, &mut Scan::new(7), Plain, |at| bytes[at as usize]);
            assert_eq!(hash(id.as_bytes(), 7), found.map(|found| found.hash));
            assert!(hash(id.as_bytes(), 7).is_some());
        }
        for none in ["", "a b", "a@", "a\r\n", "\u{e9}"] {
            assert_eq!(hash(none.as_bytes(), 7), None, "{none:?}");
        }
    }

    #[test]
    fn the_header_is_found_in_all_its_forms() {
        let of = |header: &str| {
            find(&format!("INVITE sip:a@b SIP/2.0\r\nVia: x\r\n{header}\r\nCSeq: 1\r\n\r\n")).map(str::to_owned)
        };
        assert_eq!(of("Call-ID: 843817637684230@998sdasdh09").unwrap(), "843817637684230@998sdasdh09");
        assert_eq!(of("CALL-id :\t abc").unwrap(), "abc");
        assert_eq!(of("i:abc@h").unwrap(), "abc@h");
        assert_eq!(of("I : abc").unwrap(), "abc");
        assert_eq!(of("Call-ID: a b").unwrap(), "a");
        assert_eq!(of("Call-ID: a@b@c").unwrap(), "a@b");
        for header in [
            "Call-Info: x",
            "invite: x",
            " Call-ID: x",
            "Call-ID x",
            "Call-ID:",
            "Call-ID: x@",
            "Call-ID: @x",
            "XCall-ID: x",
        ] {
            assert_eq!(of(header), None, "{header}");
        }
        let long = |length: usize| of(&format!("Call-ID: {}", "x".repeat(length)));
        assert!(long(255).is_some() && long(256).is_none());
    }

    #[test]
    fn the_first_line_is_no_header_and_the_message_may_end_anywhere() {
        assert_eq!(find("Call-ID: x\r\n"), None);
        assert_eq!(find("\nCall-ID: x"), Some("x"));
        assert_eq!(find("A\r\rCall-ID: x"), Some("x"));
        assert_eq!(find(""), None);
    }

    #[test]
    fn different_values_have_different_hashes() {
        let hash = |id: &str| {
            let message = format!("\nCall-ID: {id}\n");
            let byte = |at: u32| message.as_bytes()[at as usize];
            call_id(message.len() as u32, &mut Scan::new(99), Plain, byte).unwrap().hash
        };
        let mut hashes: Vec<u64> = (0..10_000).map(|n| hash(&format!("{n}@host"))).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 10_000);
        assert_ne!(hash("ab@c"), hash("abc"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_scanned(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            if let Some(found) = call_id(bytes.len() as u32, &mut Scan::new(1), Plain, |at| bytes[at as usize]) {
                prop_assert!(found.length >= 1 && found.length <= LONGEST);
                prop_assert!(found.at + found.length <= bytes.len() as u32);
            }
        }
    }
}
