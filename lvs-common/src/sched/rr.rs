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
        if self.at == 0 {
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

/// The first usable destination behind the one picked last, going round at the end of the list. Without one the
/// state stays.
#[inline(always)]
pub fn pick<D: Destinations + ?Sized>(list: &D, state: u64) -> Pick {
    let last = state as DestId;
    let at = if last == 0 { 0 } else { list.get(last).map_or(0, |dest| dest.next) };
    let found = if list.head() == 0 { 0 } else { list.walk(list.count(), Round { at, found: 0 }).found };
    Pick { dest: found, state: if found == 0 { state } else { found as u64 } }
}

/// The state after a change: if the destination picked last is removed, the one before it on the list takes its place.
pub const fn changed(_config: &ServiceConfig, state: u64, change: Change) -> u64 {
    match change {
        Change::Attached => 0,
        Change::Removed { dest, predecessor } if state == dest as u64 => predecessor as u64,
        _ => state,
    }
}
