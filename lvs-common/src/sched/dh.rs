//! Destination hashing: the packet's destination address chooses one of 256 buckets.

use super::destinations::{Destinations, usable};
use super::pick::PickKey;
use super::table::{BucketTable, Table, TableDest, bucket};
use super::traits::Traits;
use crate::abi::DestId;

/// What this scheduler is.
pub const TRAITS: Traits = Traits {
    table: Some(BucketTable {
        slots: BUCKETS,
        most: usize::MAX,
        build: |dests, _, slots| {
            build(dests, slots);
            true
        },
    }),
    ..Traits::new("dh")
};

/// How many buckets a table has.
pub const BUCKETS: usize = 256;

/// Fills `slots` (of [`BUCKETS`]) with the destinations in turn, whatever their weights.
pub fn build(dests: &[TableDest], slots: &mut [DestId]) {
    slots.fill(DestId::NONE);
    for (slot, dest) in slots.iter_mut().zip(dests.iter().cycle()) {
        *slot = dest.id;
    }
}

/// The destination of the bucket, 0 if it is not usable.
#[inline(always)]
pub fn pick<D: Destinations + ?Sized, T: Table>(list: &D, table: T, key: &PickKey) -> DestId {
    usable(list, table.slot(bucket(key.virt.fold(), 8)))
}
