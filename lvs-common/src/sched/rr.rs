//! Round robin. The state word is the number of the destination picked last, 0 before the first pick.

use super::change::Change;
use super::destinations::{Destinations, Walk};
use super::pick::Pick;
use super::traits::Traits;
use crate::abi::{DestId, ServiceConfig};

/// What this scheduler is.
pub const TRAITS: Traits = Traits { state: Some(changed), ..Traits::new("rr") };

struct Round {
    at: DestId,
    found: DestId,
}

impl Walk for Round {
    #[inline(always)]
    fn step<D: Destinations + ?Sized>(&mut self, list: &D) -> bool {
        if self.at.is_none() {
            self.at = list.head();
        }
        let Some(dest) = list.get(self.at) else { return true };
        if dest.usable() {
            self.found = self.at;
            return true;
        }
        self.at = dest.next;
        false
    }
}

/// The first usable destination after the one picked last, going round at the end of the list. Without one the
/// state stays.
#[inline(always)]
pub fn pick<D: Destinations + ?Sized>(list: &D, state: u64) -> Pick {
    let last = DestId::new(state as u32);
    let at = if last.is_none() { last } else { list.get(last).map_or(DestId::NONE, |dest| dest.next) };
    let found = if list.head().is_none() {
        DestId::NONE
    } else {
        list.walk(list.count(), Round { at, found: DestId::NONE }).found
    };
    Pick { dest: found, state: if found.is_none() { state } else { found.get() as u64 } }
}

/// The state after a change: if the destination picked last is removed, the one before it on the list takes its place.
pub const fn changed(_config: &ServiceConfig, state: u64, change: Change) -> u64 {
    match change {
        Change::Attached => 0,
        Change::Removed { dest, predecessor } if state == dest.get() as u64 => predecessor.get() as u64,
        _ => state,
    }
}
