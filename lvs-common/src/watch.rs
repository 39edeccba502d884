//! The hash of the watch filter ([`Watch`](crate::abi::Watch)).

use crate::abi::{IpAddress, WATCH_BITS};

/// Bit of the filter for an address: word index and mask.
#[inline(always)]
pub fn bit<A: IpAddress>(address: A) -> (usize, u64) {
    let (low, high) = address.words();
    let h = (low ^ high.rotate_left(16)).wrapping_mul(0x9e37_79b1) >> (32 - WATCH_BITS.trailing_zeros());
    ((h >> 6) as usize & 1023, 1 << (h & 63))
}
