//! Source hashing: the client's address, with `sh-port` its port too, chooses one of 256 buckets.

use super::destinations::{Destinations, Walk, usable};
use super::pick::PickKey;
use super::table::{BucketTable, Table, TableDest, bucket};
use super::traits::Traits;
use crate::abi::{DestId, service_flags};

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
    flags: &[(service_flags::SCHED1, "sh-fallback"), (service_flags::SCHED2, "sh-port")],
    ..Traits::new("sh")
};

/// How many buckets a table has.
pub const BUCKETS: usize = 256;

/// Fills `slots` (of [`BUCKETS`]) with the destinations in turn, each as many times as its weight says; one of weight 0
/// still owns a bucket, so that quiescing a destination moves nobody else.
pub fn build(dests: &[TableDest], slots: &mut [DestId]) {
    slots.fill(DestId::NONE);
    let runs = dests.iter().cycle().flat_map(|dest| core::iter::repeat_n(dest.id, dest.weight.max(1) as usize));
    for (slot, id) in slots.iter_mut().zip(runs) {
        *slot = id;
    }
}

struct Probe<T> {
    table: T,
    bucket: u32,
    found: DestId,
}

impl<T: Table> Walk for Probe<T> {
    #[inline(always)]
    fn step<D: Destinations + ?Sized>(&mut self, list: &D) -> bool {
        self.found = usable(list, self.table.slot(self.bucket & 255));
        self.bucket = self.bucket.wrapping_add(1);
        self.found.is_some()
    }
}

/// The destination of the bucket. If it is not usable: none, or with `sh-fallback` the first usable one from twice the
/// bucket on (IPVS counts the offset in twice).
#[inline(always)]
pub fn pick<D: Destinations + ?Sized, T: Table>(list: &D, table: T, flags: u32, key: &PickKey) -> DestId {
    let port = if flags & service_flags::SCHED2 != 0 { key.client_port.get() } else { 0 };
    let bucket = bucket(key.client.fold().wrapping_add(port as u32), 8);
    let found = usable(list, table.slot(bucket));
    if found.is_some() || flags & service_flags::SCHED1 == 0 {
        return found;
    }
    list.walk(BUCKETS as u32, Probe { table, bucket: bucket.wrapping_mul(2), found: DestId::NONE }).found
}
