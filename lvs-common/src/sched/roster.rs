//! Rosters, for lists of more than a few destinations. A command builds one when a list or a weight changes. The schedulers
//! that look at every destination read it.

use super::destinations::{Candidate, Visit};
use crate::abi::{DestId, Destination, ROSTER_ENTRIES, RosterEntry, RosterPart, ServiceId};

/// Lists up to this long have none: their few destinations are found as fast without.
pub const SHORT: u32 = 4;

/// How many parts a roster with so many entries has.
pub const fn parts(entries: usize) -> usize {
    entries.div_ceil(ROSTER_ENTRIES)
}

/// The parts of a service's roster, each with its place; `places` are as many as [`parts`] says. Destinations of weight 0 are
/// to be left out of `entries`.
pub fn build<'a>(
    service: ServiceId,
    entries: &'a [RosterEntry],
    places: &'a [u32],
) -> impl Iterator<Item = (u32, RosterPart)> + 'a {
    let first = places.first().copied().unwrap_or(0);
    entries.chunks(ROSTER_ENTRIES).zip(places).enumerate().map(move |(at, (chunk, place))| {
        let next = places.get(at + 1).copied().unwrap_or(0);
        let mut part = RosterPart { next, service, first, ordinal: at as u32, ..RosterPart::default() };
        part.entries[..chunk.len()].copy_from_slice(chunk);
        (*place, part)
    })
}

/// Shows the destinations of a part to `visit` until that, or the roster, ends; whether it did. `load` tells a
/// destination's connections, as [`Destination::connections`] packs them, and whether it is overloaded.
#[inline(always)]
pub fn show<V: Visit>(part: &RosterPart, load: impl Fn(DestId) -> Option<(u64, bool)>, visit: &mut V) -> bool {
    let mut ends = |at: usize| {
        let Some(&RosterEntry { id, weight }) = part.entries.get(at) else { return true };
        let Some((connections, overloaded)) = load(id) else { return true };
        let (active, inactive) = Destination::split(connections);
        // Behind the last entry, weight 0 makes it one that no visit takes.
        visit.visit(&Candidate { id, weight, active, inactive, overloaded, next: DestId::NONE })
    };
    // Written out: the verifier joins the ways through an entry where the next begins, but not at a loop's head.
    const { assert!(ROSTER_ENTRIES == 12) };
    (ends(0) || ends(1) || ends(2) || ends(3) || ends(4) || ends(5))
        || (ends(6) || ends(7) || ends(8) || ends(9) || ends(10) || ends(11))
        || part.next == 0
}
