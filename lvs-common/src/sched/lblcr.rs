//! Locality-based least connections with replication: an address is served by a set of destinations, which grows while
//! they are overloaded and shrinks when it has not changed for long.

use super::destinations::{Destinations, Walk, lighter};
use super::lblc;
use super::locality::{self, Entry, Locality, SET};
use super::pick::PickKey;
use super::traits::Traits;
use crate::abi::{DestId, Scheduler};

/// What this scheduler is.
pub const TRAITS: Traits = Traits { memory: Some(|sysctls| sysctls.lblcr_expiration), ..Traits::scanning("lblcr") };

/// A member of a set, as an extreme of it.
#[derive(Clone, Copy, Default)]
struct Member {
    id: DestId,
    position: u32,
    weight: u32,
    active: u32,
    load: u64,
}

/// Looks at the members of a set.
struct Members {
    set: [DestId; SET],
    position: u32,
    /// The least loaded one that is usable.
    least: Member,
    /// The most loaded one that has a weight.
    most: Member,
}

impl Walk for Members {
    #[inline(always)]
    fn step<D: Destinations + ?Sized>(&mut self, list: &D) -> bool {
        let id = self.set.get(self.position as usize & (SET - 1)).copied().unwrap_or(DestId::NONE);
        if id.is_none() {
            return true;
        }
        let position = self.position;
        self.position = position.wrapping_add(1);
        let Some(dest) = list.recall(id) else { return false };
        let member = Member { id, position, weight: dest.weight, active: dest.active, load: dest.overhead() };
        if dest.usable()
            && (self.least.id.is_none() || lighter(member.load, member.weight, self.least.load, self.least.weight))
        {
            self.least = member;
        }
        if dest.weight > 0
            && (self.most.id.is_none() || lighter(self.most.load, self.most.weight, member.load, member.weight))
        {
            self.most = member;
        }
        false
    }
}

/// Takes the member at `position` out of a set.
#[inline(always)]
fn remove(set: &mut [DestId; SET], position: u32) {
    for i in 0..SET {
        let follower = set.get(i + 1).copied().unwrap_or(DestId::NONE);
        if let Some(slot) = set.get_mut(i)
            && i as u32 >= position
        {
            *slot = follower;
        }
    }
}

/// Puts `dest` in front of a set unless it is a member; whether it did.
#[inline(always)]
fn insert(set: &mut [DestId; SET], dest: DestId) -> bool {
    if set.contains(&dest) {
        return false;
    }
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, _] = *set;
    *set = [dest, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o];
    true
}

/// The least loaded of the address's destinations if it is not crowded, else wlc's choice, which joins them.
#[inline(always)]
pub fn pick<D: Destinations + ?Sized, L: Locality>(list: &D, locality: &L, key: &PickKey) -> DestId {
    let mut entry = match locality.fresh(&key.virt, key.now) {
        Some(entry) => entry,
        None => Entry { used: key.now, changed: key.now, dests: locality::empty() },
    };
    let members = Members { set: entry.dests, position: 0, least: Member::default(), most: Member::default() };
    let Members { least, most, .. } = list.walk(SET as u32, members);

    let mut is_changed = false;
    let [_, second, ..] = entry.dests;
    if second.is_some() && most.id.is_some() && key.now > entry.changed.wrapping_add(locality.lifetime()) {
        remove(&mut entry.dests, most.position);
        is_changed = true;
    }
    let mut dest = least.id;
    if dest.is_none() || lblc::crowded(list, least.active, least.weight) {
        dest = list.best(Scheduler::Wlc as u8);
        is_changed |= dest.is_some() && insert(&mut entry.dests, dest);
    }
    if is_changed {
        entry.changed = key.now;
        locality.put(&key.virt, &entry);
    }
    dest
}
