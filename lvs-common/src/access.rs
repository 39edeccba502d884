//! Who may come in: what the lists of blocked and of allowed clients decide about a client.

use crate::abi::{FOR_GOOD, ListEntry};
use crate::exit::Exit;
use crate::verifier::Each;

/// Most prefixes that cover one address: one of each length.
const MOST: u32 = 129;

/// Lists in force by their numbers; 0 is a list without entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// Clients that may not come in.
    pub blocked: u32,
    /// If there are any: the only clients that may.
    pub allowed: u32,
}

/// Why a client may not come in, `None` if it may. `all` are the lists for all services, `own` those of the client's service;
/// `covers` tells whether a list has an entry in force for the client.
///
/// What is blocked stays out, whatever else allows it. Of each list of allowed clients that there is, the client must be on one.
#[inline(always)]
pub fn refusal(all: Lists, own: Lists, mut covers: impl FnMut(u32) -> bool) -> Option<Exit> {
    for list in [all.blocked, own.blocked] {
        if list != 0 && covers(list) {
            return Some(Exit::DropBlocked);
        }
    }
    for list in [all.allowed, own.allowed] {
        if list != 0 && !covers(list) {
            return Some(Exit::DropNotAllowed);
        }
    }
    None
}

/// Whether an entry has not ended. `now` is asked for only if the entry has an end.
#[inline(always)]
pub fn is_in_force(entry: &ListEntry, now: impl FnOnce() -> u64) -> bool {
    entry.until == FOR_GOOD || entry.until > now()
}

/// A way to an entry.
pub trait Listed: Copy {
    /// The entry.
    fn entry<'a>(self) -> &'a ListEntry;
}

/// Whether there is an entry in force. `longest` gives the entry of the longest prefix of so many bits at most: one that has ended
/// hides shorter ones, so those are asked for next. `found` is told the entry.
#[inline(always)]
pub fn find<E: Listed>(
    bits: u32,
    each: impl Each,
    mut longest: impl FnMut(u32) -> Option<E>,
    mut now: impl FnMut() -> u64,
    mut found: impl FnMut(E),
) -> bool {
    let (mut bits, mut is_found) = (bits, false);
    each.each(MOST, &mut |_| {
        let Some(listed) = longest(bits) else { return true };
        let entry = listed.entry();
        if is_in_force(entry, &mut now) {
            is_found = true;
            found(listed);
            return true;
        }
        bits = entry.length.wrapping_sub(1);
        entry.length == 0
    });
    is_found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::verifier::Plain;

    const NOW: u64 = 1000;

    impl Listed for &'static ListEntry {
        fn entry<'a>(self) -> &'a ListEntry {
            self
        }
    }

    fn entry(length: u32, until: u64) -> ListEntry {
        ListEntry { until, length, ..ListEntry::default() }
    }

    #[test]
    fn what_is_blocked_stays_out_and_what_is_allowed_anywhere_is_needed_everywhere() {
        let lists = |blocked, allowed| Lists { blocked, allowed };
        for (all, own, on, expected) in [
            (lists(0, 0), lists(0, 0), &[][..], None),
            (lists(1, 0), lists(0, 0), &[], None),
            (lists(1, 0), lists(0, 0), &[1], Some(Exit::DropBlocked)),
            (lists(0, 0), lists(1, 0), &[1], Some(Exit::DropBlocked)),
            (lists(1, 2), lists(3, 4), &[1, 2, 4], Some(Exit::DropBlocked)),
            (lists(1, 2), lists(3, 4), &[2, 3, 4], Some(Exit::DropBlocked)),
            (lists(1, 2), lists(3, 4), &[2, 4], None),
            (lists(1, 2), lists(3, 4), &[2], Some(Exit::DropNotAllowed)),
            (lists(1, 2), lists(3, 4), &[4], Some(Exit::DropNotAllowed)),
            (lists(0, 2), lists(0, 0), &[2], None),
            (lists(0, 0), lists(0, 4), &[], Some(Exit::DropNotAllowed)),
        ] {
            assert_eq!(refusal(all, own, |list| on.contains(&list)), expected, "{all:?} {own:?} {on:?}");
        }
    }

    proptest! {
        /// On a list with any ends, an address is covered as long as any of its prefixes has not ended.
        #[test]
        fn an_entry_that_has_ended_hides_none(entries in proptest::collection::btree_map(0u32..=32, 0u64..2 * NOW, 0..8)) {
            let entries: Vec<_> = entries.into_iter().map(|(length, until)| entry(length, until)).collect();
            let entries: &'static [ListEntry] = entries.leak();
            let longest = |bits| entries.iter().rev().find(|entry| entry.length <= bits);
            let expected = entries.iter().rev().find(|entry| entry.until > NOW);
            let mut told = None;
            prop_assert_eq!(find(32, Plain, longest, || NOW, |entry| told = Some(entry)), expected.is_some());
            prop_assert_eq!(told, expected);
        }
    }

    #[test]
    fn the_clock_is_asked_only_where_there_is_an_end() {
        const FOREVER: &ListEntry = &ListEntry { until: FOR_GOOD, packets: 0, length: 8, pad: 0 };
        const WHOLE: &ListEntry = &ListEntry { until: 1, packets: 0, length: 0, pad: 0 };
        assert!(find(32, Plain, |_| Some(FOREVER), || panic!("asked"), |_| {}));
        assert!(!find(32, Plain, |_| Some(WHOLE), || NOW, |_| {}));
    }
}
