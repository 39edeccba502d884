//! What lblc and lblcr remember of a destination address, and when they forget it.

use crate::abi::{Address, DestId};

/// Most destinations in the set of an address. IPVS has no such bound; a further one replaces the oldest of the set.
pub const SET: usize = 16;

/// What is known of an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Entry {
    /// When a connection to it was scheduled last, in the unit of [`PickKey::now`](super::PickKey::now).
    pub used: u64,
    /// When the set changed last, in the same unit.
    pub changed: u64,
    /// The destinations that serve it, the newest first, 0 behind the last; lblc has only one.
    pub dests: [DestId; SET],
}

const _: () = assert!(size_of::<Entry>() == 80);

/// The entries of a service.
pub trait Locality {
    /// The entry of an address.
    fn get(&self, address: &Address) -> Option<Entry>;

    /// Stores the entry of an address. It may fail for want of room: the connection does not depend on it.
    fn put(&self, address: &Address, entry: &Entry);

    /// How long a set stays as it is before its most loaded destination is taken out (`lblcr_expiration`), in the unit
    /// of [`PickKey::now`](super::PickKey::now).
    fn lifetime(&self) -> u64;
}

/// Most entries of a service; above it the next tick of housekeeping removes some.
pub const MAX_ENTRIES: u32 = 16384;

/// Seconds from tick to tick of a service's housekeeping.
pub const TICK: u32 = 60;

/// Seconds without use after which an entry of a full table may go.
const IDLE: u32 = 360;

/// Every so many ticks all entries are looked at.
const FULL: u32 = 30;

/// What a tick of housekeeping removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sweep {
    /// Entries that were not used for as many seconds...
    pub idle: u32,
    /// ... but no more of them than this.
    pub at_most: u32,
}

/// What tick number `tick` (from 1) removes when there are `entries`; `None` for nothing. `expiration` is `lblc_expiration`
/// or `lblcr_expiration`, seconds.
pub fn sweep(tick: u32, entries: u32, expiration: u32) -> Option<Sweep> {
    if tick.is_multiple_of(FULL) {
        return Some(Sweep { idle: expiration, at_most: u32::MAX });
    }
    let over = entries.checked_sub(MAX_ENTRIES).filter(|over| *over > 0)?;
    let goal = (over as u64 * 4 / 3).min(MAX_ENTRIES as u64 / 2);
    Some(Sweep { idle: IDLE, at_most: goal as u32 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn housekeeping_follows_fill_and_clock() {
        assert_eq!(sweep(1, MAX_ENTRIES, 86400), None);
        assert_eq!(sweep(1, MAX_ENTRIES + 300, 86400), Some(Sweep { idle: 360, at_most: 400 }));
        assert_eq!(sweep(29, u32::MAX, 86400), Some(Sweep { idle: 360, at_most: 8192 }));
        assert_eq!(sweep(30, 1, 86400), Some(Sweep { idle: 86400, at_most: u32::MAX }));
        assert_eq!(sweep(31, 1, 86400), None);
    }
}
