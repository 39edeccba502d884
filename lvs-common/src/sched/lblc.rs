//! Locality-based least connections: an address stays with one destination until that is overloaded. The address is the
//! packet's destination, so this suits firewall-mark services in front of caches.

use super::destinations::{Candidate, Destinations, Visit};
use super::locality::{self, Entry, Locality};
use super::pick::PickKey;
use super::traits::Traits;
use crate::abi::{DestId, Scheduler};

/// What this scheduler is.
pub const TRAITS: Traits = Traits { memory: Some(|sysctls| sysctls.lblc_expiration), ..Traits::scanning("lblc") };

/// Looks for a destination that is less than half full.
struct Idle {
    found: bool,
}

impl Visit for Idle {
    #[inline(always)]
    fn visit(&mut self, dest: &Candidate) -> bool {
        self.found = (dest.active as u64).wrapping_mul(2) < dest.weight as u64;
        self.found
    }
}

/// Whether a destination is less than half full.
#[inline(always)]
pub fn has_idle<D: Destinations + ?Sized>(list: &D) -> bool {
    list.show(Idle { found: false }).found
}

/// Whether connections move away from `dest`: it has more active connections than its weight, and another has less than
/// half of its own.
#[inline(always)]
pub(super) fn crowded<D: Destinations + ?Sized>(list: &D, active: u32, weight: u32) -> bool {
    active > weight && list.has_idle()
}

/// Whether a remembered destination still serves. Thresholds do not count.
#[inline(always)]
fn serves<D: Destinations + ?Sized>(list: &D, dest: &Candidate) -> bool {
    dest.weight > 0 && !crowded(list, dest.active, dest.weight)
}

/// The address's destination if it still serves, else wlc's choice, which is remembered.
#[inline(always)]
pub fn pick<D: Destinations + ?Sized, L: Locality>(list: &D, locality: &L, key: &PickKey) -> DestId {
    if let Some(entry) = locality.fresh(&key.virt, key.now) {
        let [known, ..] = entry.dests;
        if let Some(dest) = list.recall(known)
            && serves(list, &dest)
        {
            return known;
        }
    }
    let dest = list.best(Scheduler::Wlc as u8);
    if dest.is_some() {
        let mut dests = locality::empty();
        dests[0] = dest;
        locality.put(&key.virt, &Entry { used: key.now, changed: key.now, dests });
    }
    dest
}
