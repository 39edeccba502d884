//! What lblc and lblcr remember of a destination address.

use crate::abi::{Address, DestId};
use crate::verifier::opaque;

/// Most destinations in the set of an address. IPVS has no such bound; a further one replaces the oldest of the set.
pub const SET: usize = 16;

/// What is known of an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Entry {
    /// When a connection to it was scheduled last, in the unit of [`PickKey::now`](super::pick::PickKey::now).
    pub used: u64,
    /// When the set changed last, in the same unit.
    pub changed: u64,
    /// The destinations that serve it, the newest first, 0 after the last; lblc has only one.
    pub dests: [DestId; SET],
}

const _: () = assert!(size_of::<Entry>() == 80);

/// A set without members. A constant would become a call of `memset`: see "memset and memcpy" in docs/develop/verifier.md.
#[inline(always)]
pub fn empty() -> [DestId; SET] {
    [opaque(DestId::NONE); SET]
}

/// The entries of a service.
pub trait Locality {
    /// The entry of an address, which is used `now`, unless it has not been for too long ([`is_fresh`]).
    fn fresh(&self, address: &Address, now: u64) -> Option<Entry>;

    /// Stores the entry of an address. It may fail for want of room: the connection does not depend on it.
    fn put(&self, address: &Address, entry: &Entry);

    /// How long an entry is good without being used, and a set stays as it is before its most loaded destination is taken
    /// out (`lblc_expiration`, `lblcr_expiration`), in the unit of [`PickKey::now`](super::pick::PickKey::now).
    fn lifetime(&self) -> u64;
}

/// Whether an entry that was `used` last then is still good.
///
/// IPVS's housekeeping forgets those that are not half an hour later at most, and the least used of more than 16,384. Here
/// they are no longer found, and a full table forgets the entry unused for longest.
#[inline(always)]
pub const fn is_fresh(used: u64, lifetime: u64, now: u64) -> bool {
    now <= used.wrapping_add(lifetime)
}
