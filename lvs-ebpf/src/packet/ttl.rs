//! The TTL or hop limit.

use lvs_common::{
    abi::IpAddress,
    checksum,
    wire::{Ipv4, Ipv6},
};

use crate::{packet::access::Packet, values::parsed::L3};

/// Lowers the TTL or hop limit by one, which must be more than 1.
#[inline(always)]
pub fn lower_ttl<P: Packet, A: IpAddress>(packet: P) -> bool {
    if A::IS_V4 {
        packet.update::<Ipv4>(L3, |h| {
            // TTL is the upper byte of its word, in memory the first.
            let change = checksum::difference(h.ttl as u32, h.ttl.wrapping_sub(1) as u32);
            h.ttl = h.ttl.wrapping_sub(1);
            h.check = checksum::update(h.check, change);
        })
    } else {
        packet.update::<Ipv6>(L3, |h| h.hop_limit = h.hop_limit.wrapping_sub(1))
    }
}
