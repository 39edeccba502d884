//! TOA ("TCP option address"): how a director that rewrites a connection's source tells the real server the client's
//! address and port. An option of kind 254, one of two for experiments (RFC 4727), in DPVS's form: the port, then the
//! address; its length tells the family.
//!
//! The director writes it with [`option4`] and [`option6`]; the real server reads it with [`find`].

use crate::abi::{AF_INET, AF_INET6, Address};
use crate::byte_order::Be16;

/// The option's kind.
pub const KIND: u8 = 254;
/// Bytes of the option with an IPv4 address, kind and length included.
pub const LENGTH4: usize = 8;
/// Bytes of the option with an IPv6 address.
pub const LENGTH6: usize = 20;
/// The most bytes of options a TCP header has (RFC 9293, section 3.1), and so the most options.
pub const OPTIONS: usize = 40;

/// Kinds of one byte (RFC 9293, section 3.2): the end of the options, and padding.
const END: u8 = 0;
const NOP: u8 = 1;

/// A client's end of a connection, as the option tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Client {
    /// Address, network byte order.
    pub address: Address,
    /// `AF_INET` or `AF_INET6`.
    pub family: u16,
    /// Port.
    pub port: Be16,
}

const _: () = assert!(size_of::<Client>() == 20);

/// What a connection that a real server accepted came to; the numbers are indices into its programs' counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Count {
    /// A trusted peer told the client.
    Found,
    /// A trusted peer told none.
    Missing,
    /// A peer that is not trusted told one, in vain.
    Untrusted,
    /// A trusted peer told an IPv6 client of a socket that knows IPv4 addresses only, in vain.
    Unsuited,
}

/// Names of the counters, by number.
pub const COUNTS: [&str; 4] = ["found", "none", "untrusted", "unsuited"];

/// The option for an IPv4 client, as words of memory.
#[inline(always)]
pub const fn option4(address: u32, port: Be16) -> [u32; LENGTH4 / 4] {
    [head(LENGTH4, port), address]
}

/// The option for an IPv6 client, as words of memory.
#[inline(always)]
pub const fn option6(address: [u32; 4], port: Be16) -> [u32; LENGTH6 / 4] {
    let [a, b, c, d] = address;
    [head(LENGTH6, port), a, b, c, d]
}

/// Kind, length and port.
#[inline(always)]
const fn head(length: usize, port: Be16) -> u32 {
    let [high, low] = port.word().to_ne_bytes();
    u32::from_ne_bytes([KIND, length as u8, high, low])
}

/// The options of a TCP header, that is what stands between its first twenty bytes and its data.
pub trait Options {
    /// `N` bytes from `at` on; `None` if they do not all belong to the options.
    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]>;

    /// Where the first one is: at 0, which a reader may keep from the BPF verifier. That would follow a loop over the options
    /// once more for each place that it can tell.
    #[inline(always)]
    fn first(&self) -> usize {
        0
    }
}

impl Options for [u8] {
    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.get(at..)?.first_chunk().copied()
    }
}

/// Kind and length of the option at `at`, which lies within the header, or of one byte of padding; `None` at the end of the
/// options, and where they make no sense, which is where the kernel stops reading them as well.
#[inline(always)]
pub fn option(options: &(impl Options + ?Sized), at: usize) -> Option<(u8, usize)> {
    let [kind] = options.bytes(at)?;
    match kind {
        END => return None,
        NOP => return Some((NOP, 1)),
        _ => {}
    }
    let [_, length] = options.bytes(at)?;
    let length = length as usize;
    if !(2..=OPTIONS).contains(&length) {
        return None;
    }
    // Its last byte.
    let [_] = options.bytes(at + length - 1)?;
    Some((kind, length))
}

/// The client of the first TOA option. An option of that kind with another length is somebody else's experiment.
#[inline(always)]
pub fn find(options: &(impl Options + ?Sized)) -> Option<Client> {
    let mut at = 0;
    for _ in 0..OPTIONS {
        let (kind, length) = option(options, at)?;
        match (kind, length) {
            (KIND, LENGTH4) => return client4(options, at),
            (KIND, LENGTH6) => return client6(options, at),
            _ => {}
        }
        // A mask that changes nothing, as the header is shorter, but keeps the BPF verifier's states few.
        at = (at + length) & 63;
    }
    None
}

#[inline(always)]
fn client4(options: &(impl Options + ?Sized), at: usize) -> Option<Client> {
    let [p, q, address @ ..]: [u8; LENGTH4 - 2] = options.bytes(at + 2)?;
    Some(Client {
        address: Address::v4(address),
        family: AF_INET.into(),
        port: Be16::from_word(u16::from_ne_bytes([p, q])),
    })
}

#[inline(always)]
fn client6(options: &(impl Options + ?Sized), at: usize) -> Option<Client> {
    let [p, q, address @ ..]: [u8; LENGTH6 - 2] = options.bytes(at + 2)?;
    Some(Client {
        address: Address::v6(address),
        family: AF_INET6.into(),
        port: Be16::from_word(u16::from_ne_bytes([p, q])),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIMESTAMPS: [u8; 10] = [8, 10, 1, 2, 3, 4, 5, 6, 7, 8];
    const SACK: [u8; 10] = [5, 10, 1, 1, 1, 1, 2, 2, 2, 2];
    const TOA4: [u8; 8] = [254, 8, 0x1f, 0x90, 192, 0, 2, 7];
    const TOA6: [u8; 20] = [254, 20, 0x1f, 0x90, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];

    fn client(family: u8, address: Address, port: u16) -> Option<Client> {
        Some(Client { address, family: family.into(), port: Be16::new(port) })
    }

    fn seven() -> Option<Client> {
        client(AF_INET, Address::v4([192, 0, 2, 7]), 8080)
    }

    fn nine() -> Option<Client> {
        client(AF_INET6, Address::v6([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]), 8080)
    }

    fn memory(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    /// The definition, taken at its word: options one after the other, until one is wrong.
    fn literal(mut options: &[u8]) -> Option<Client> {
        loop {
            match *options {
                [] | [0, ..] | [_] => return None,
                [1, ..] => options = &options[1..],
                [_, length, ..] if length < 2 || usize::from(length) > options.len() => return None,
                [254, 8, p, q, a, b, c, d, ..] => {
                    return client(AF_INET, Address::v4([a, b, c, d]), u16::from_be_bytes([p, q]));
                }
                [254, 20, p, q, ..] => {
                    let address = options[4..20].try_into().expect("sixteen bytes");
                    return client(AF_INET6, Address::v6(address), u16::from_be_bytes([p, q]));
                }
                [_, length, ..] => options = &options[usize::from(length)..],
            }
        }
    }

    #[test]
    fn what_is_written_is_what_stands_in_the_header() {
        assert_eq!(memory(&option4(Address::v4([192, 0, 2, 7]).0[0], Be16::new(8080))), TOA4);
        let Client { address, port, .. } = nine().unwrap();
        assert_eq!(memory(&option6(address.0, port)), TOA6);
    }

    #[test]
    fn it_is_found_wherever_it_stands() {
        assert_eq!(find(&TOA4[..]), seven());
        assert_eq!(find(&TOA6[..]), nine());
        assert_eq!(find(&[&TOA6[..], &TIMESTAMPS, &[1, 1]].concat()[..]), nine());
        assert_eq!(find(&[&[1, 1], &TIMESTAMPS[..], &SACK, &TOA4].concat()[..]), seven());
        assert_eq!(find(&[&[1; 32], &TOA4[..]].concat()[..]), seven(), "after as much padding as there is room for");
        assert_eq!(find(&[&[2, 4, 5, 0xb4, 1, 3, 3, 7], &TOA4[..], &[0; 4]].concat()[..]), seven(), "on a SYN");
        assert_eq!(find(&[&TOA4[..], &TOA6].concat()[..]), seven(), "the first one counts");
    }

    #[test]
    fn it_is_not_found_where_it_is_not() {
        for nothing in [&[][..], &[1], &[1; 40], &[0; 40], &[254], &[254, 0], &[254, 1], &[3], &TIMESTAMPS] {
            assert_eq!(find(nothing), None, "{nothing:?}");
        }
        assert_eq!(find(&[&[0], &TOA4[..]].concat()[..]), None, "after the end of the options");
        for cut in 0..8 {
            assert_eq!(find(&TOA4[..cut]), None, "cut to {cut} bytes");
        }
        for cut in 0..20 {
            assert_eq!(find(&TOA6[..cut]), None, "cut to {cut} bytes");
        }
        for length in (0..=255).filter(|length| ![8, 20].contains(length)) {
            let mut options = [1; 40];
            options[0] = 254;
            options[1] = length;
            assert_eq!(find(&options[..]), None, "{length} bytes are no TOA");
        }
        // Another experiment of that kind (RFC 6994), then ours.
        assert_eq!(find(&[&[254, 4, 0xf9, 0x89], &TOA4[..]].concat()[..]), seven());
        // A length of 0 or 1 would never get ahead; one that is too long leads out of the header.
        for length in [0, 1, 41, 255] {
            assert_eq!(find(&[&[99, length], &TOA4[..], &[1; 30]].concat()[..]), None);
        }
    }

    /// Well-formed options, ill-formed ones, and bytes.
    fn options() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => Just(vec![1]),
            2 => Just(TIMESTAMPS.to_vec()),
            2 => Just(SACK.to_vec()),
            2 => Just(TOA4.to_vec()),
            1 => Just(TOA6.to_vec()),
            2 => (any::<u8>(), 2..24usize).prop_map(|(kind, length)| {
                let mut option = vec![0x11; length];
                (option[0], option[1]) = (kind.max(2), length as u8);
                option
            }),
            1 => any::<[u8; 2]>().prop_map(|[kind, length]| vec![kind, length]),
            1 => Just(vec![0]),
        ];
        let pieces = prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat());
        let bytes = prop::collection::vec(prop_oneof![Just(254u8), Just(8), Just(20), 0..4u8, any::<u8>()], 0..48);
        (prop_oneof![4 => pieces, 1 => bytes], 0..=OPTIONS).prop_map(|(mut options, length)| {
            options.truncate(length);
            options
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn it_is_read_as_it_is_defined(options in options()) {
            prop_assert_eq!(find(&options[..]), literal(&options));
        }

        #[test]
        fn what_is_written_is_read(before in 0..=32usize, address: [u32; 4], port: u16) {
            let port = Be16::new(port);
            let padded = |before, option: &[u32]| [vec![NOP; before], memory(option)].concat();
            let v4 = Client { address: Address([address[0], 0, 0, 0]), family: AF_INET.into(), port };
            prop_assert_eq!(find(&padded(before, &option4(address[0], port))[..]), Some(v4));
            let v6 = Client { address: Address(address), family: AF_INET6.into(), port };
            prop_assert_eq!(find(&padded(before % 21, &option6(address, port))[..]), Some(v6));
        }
    }
}
