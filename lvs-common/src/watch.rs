//! The hash of the watch filter ([`Watch`](crate::abi::Watch)).

use crate::abi::{IpAddress, WATCH_BITS};
use crate::byte_order::Be16;

/// Bit of the filter for an address: word index and mask.
#[inline(always)]
pub fn bit<A: IpAddress>(address: A) -> (usize, u64) {
    let (low, high) = address.words();
    spread(low ^ high.rotate_left(16))
}

/// Bit of the filter for a protocol's port of an address: word index and mask.
#[inline(always)]
pub fn port_bit<A: IpAddress>(address: A, port: Be16, protocol: u8) -> (usize, u64) {
    let (low, high) = address.words();
    spread(low ^ high.rotate_left(16) ^ (port.get() as u32 | (protocol as u32) << 16).wrapping_mul(0x85eb_ca6b))
}

/// The word and the bit that a hash's upper half names.
#[inline(always)]
fn spread(hash: u32) -> (usize, u64) {
    let h = hash.wrapping_mul(0x9e37_79b1) >> (32 - WATCH_BITS.trailing_zeros());
    ((h >> 6) as usize & 1023, 1 << (h & 63))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_an_address_have_bits_of_their_own() {
        let port = |port, protocol| port_bit(0x0a00_0001_u32, Be16::new(port), protocol);
        let bits: std::collections::HashSet<_> = (1..=1000).flat_map(|p| [port(p, 6), port(p, 17)]).collect();
        assert!(bits.len() > 1900, "2000 ports share {} bits of 65536", bits.len());
    }
}
