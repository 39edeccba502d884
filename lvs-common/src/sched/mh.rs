//! Maglev hashing: a table in which each destination owns slots by its weight, and few slots change owner when the list
//! does. Tables equal those of 64-bit kernels built with the default size.

use super::change;
use super::destinations::{Destinations, Walk, usable};
use super::pick::PickKey;
use super::table::{BucketTable, Table, TableDest, Turns};
use super::traits::Traits;
use crate::{
    abi::{DestId, service_flags},
    hash::{SipKey, siphash13},
};

/// What this scheduler is.
pub const TRAITS: Traits = Traits {
    table: Some(BucketTable {
        slots: SLOTS,
        most: SLOTS,
        build: |dests, turns, slots| slots.try_into().is_ok_and(|slots| build(dests, turns, slots)),
    }),
    flags: &[(service_flags::SCHED1, "mh-fallback"), (service_flags::SCHED2, "mh-port")],
    ..Traits::new("mh")
};

/// How many slots a table has: a prime.
pub const SLOTS: usize = 4093;

/// Key for first slots, of destinations and of clients.
const FIRST: SipKey = SipKey(2_654_435_761, 2_654_435_761);
/// Key for the distance between the slots that a destination tries.
const SKIP: SipKey = SipKey(2_654_446_892, 2_654_446_892);

/// Weights are scaled down until the greatest has no more than this many bits.
const TURN_BITS: u32 = 6;

/// Fills `slots` from the destinations in the order of the list. `turns` is scratch, of at least as many entries as there
/// are destinations. `false`, and an empty table, if there are more destinations than slots or than scratch.
///
/// The last weight that was not 0 counts, so quiescing a destination leaves the table as it is.
pub fn build(dests: &[TableDest], turns: &mut [Turns], slots: &mut [DestId; SLOTS]) -> bool {
    slots.fill(DestId::NONE);
    let Some(turns) = turns.get_mut(..dests.len()) else { return false };
    if dests.len() > SLOTS {
        return false;
    }
    let (max, gcd) = change::weights(dests.iter().map(|dest| dest.last_weight));
    let shift = (max / gcd).checked_ilog2().map_or(0, |log| (log + 1).saturating_sub(TURN_BITS));
    for (dest, turn) in dests.iter().zip(turns.iter_mut()) {
        let value = dest.address.fold().wrapping_add(dest.port.get() as u32);
        *turn = Turns {
            at: siphash13(value, FIRST) % SLOTS as u32,
            skip: siphash13(value, SKIP) % (SLOTS as u32 - 1) + 1,
            turns: ((dest.last_weight / gcd) >> shift).max((dest.last_weight != 0) as u32),
        };
    }
    if turns.iter().all(|turn| turn.turns == 0) {
        return true;
    }
    let mut free = SLOTS;
    loop {
        for (dest, turn) in dests.iter().zip(turns.iter_mut()) {
            for _ in 0..turn.turns {
                if free == 0 {
                    return true;
                }
                while slots[turn.at as usize].is_some() {
                    turn.at = (turn.at + turn.skip) % SLOTS as u32;
                }
                slots[turn.at as usize] = dest.id;
                free -= 1;
            }
        }
    }
}

/// The slot of a client.
#[inline(always)]
fn slot(value: u32) -> u32 {
    siphash13(value, FIRST) % SLOTS as u32
}

struct Probe<T> {
    table: T,
    value: u32,
    offset: u32,
    found: DestId,
}

impl<T: Table> Walk for Probe<T> {
    #[inline(always)]
    fn step<D: Destinations + ?Sized>(&mut self, list: &D) -> bool {
        self.found = usable(list, self.table.slot(slot(self.value.wrapping_add(self.offset))));
        self.offset = self.offset.wrapping_add(1);
        if self.offset >= SLOTS as u32 {
            self.offset = 0;
        }
        self.found.is_some()
    }
}

/// The destination of the client's slot (`mh-port`: of client and port). If it is not usable: none, or with `mh-fallback`
/// the first usable one of as many further hashes as there are slots.
#[inline(always)]
pub fn pick<D: Destinations + ?Sized, T: Table>(list: &D, table: T, flags: u32, key: &PickKey) -> DestId {
    let port = if flags & service_flags::SCHED2 != 0 { key.client_port.get() } else { 0 };
    let value = key.client.fold().wrapping_add(port as u32);
    let first = slot(value);
    let found = usable(list, table.slot(first));
    if found.is_some() || flags & service_flags::SCHED1 == 0 {
        return found;
    }
    list.walk(SLOTS as u32, Probe { table, value, offset: first, found: DestId::NONE }).found
}
