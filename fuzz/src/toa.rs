//! The option that tells a real server its client (TOA), in the header of a segment from the network.

use lvs_common::abi::Address;
use lvs_common::toa::{self, Client, Options};

/// Looks for the option; a reader that was written anew from RFC 9293 finds the same.
///
/// # Panics
/// If it does not.
pub fn run(input: &[u8]) {
    // As many bytes as a header can have.
    let options = &input[..input.len().min(toa::OPTIONS)];
    assert_eq!(toa::find(&Header(options)), expected(options), "options {options:02x?}");
}

/// The options of a header.
struct Header<'a>(&'a [u8]);

impl Options for Header<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..)?.first_chunk().copied()
    }
}

/// The client, from the options one after another.
fn expected(mut options: &[u8]) -> Option<Client> {
    loop {
        let [kind, rest @ ..] = options else { return None };
        let length = match (*kind, rest) {
            (0, _) => return None,
            (1, _) => {
                options = rest;
                continue;
            }
            (_, [length, ..]) => usize::from(*length),
            _ => return None,
        };
        if length < 2 || options.len() < length {
            return None;
        }
        let (option, after) = options.split_at(length);
        let port = |p: u8, q: u8| lvs_common::byte_order::Be16::new(u16::from_be_bytes([p, q]));
        match *option {
            [toa::KIND, 8, p, q, a, b, c, d] => {
                return Some(Client { address: Address::v4([a, b, c, d]), family: 2, port: port(p, q) });
            }
            [toa::KIND, 20, p, q, ref address @ ..] => {
                let address = Address::v6(address.try_into().expect("sixteen bytes"));
                return Some(Client { address, family: 10, port: port(p, q) });
            }
            _ => options = after,
        }
    }
}
