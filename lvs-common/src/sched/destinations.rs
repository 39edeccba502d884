//! The destinations of a service, and the loops over them.

use crate::abi::DestId;

/// What a scheduler sees of a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    /// Its number, never 0.
    pub id: DestId,
    /// Weight, 0 for one that gets no new connections.
    pub weight: u32,
    /// Active connections.
    pub active: u32,
    /// Inactive connections.
    pub inactive: u32,
    /// Connection thresholds keep new connections away.
    pub overloaded: bool,
    /// The next older destination of the list, 0 at the end.
    pub next: DestId,
}

impl Candidate {
    /// Whether new connections may go there.
    #[inline(always)]
    pub const fn usable(&self) -> bool {
        self.weight > 0 && !self.overloaded
    }

    /// Load as lc, wlc, lblc, lblcr and twos count it: an active connection weighs as much as 256 inactive ones.
    #[inline(always)]
    pub const fn overhead(&self) -> u64 {
        ((self.active as u64) << 8).wrapping_add(self.inactive as u64)
    }
}

/// Whether `load` over `weight` is less than `best_load` over `best_weight`, without dividing. Exact while loads are
/// below 2^33, which is 33 million active connections on one destination.
#[inline(always)]
pub const fn lighter(load: u64, weight: u32, best_load: u64, best_weight: u32) -> bool {
    best_load.wrapping_mul(weight as u64) > load.wrapping_mul(best_weight as u64)
}

/// The destinations of a service.
pub trait Destinations {
    /// The newest one, 0 if there is none.
    fn head(&self) -> DestId;

    /// How many there are.
    fn count(&self) -> u32;

    /// A destination of the list, by a number that the list itself or a table built from it gave.
    fn get(&self, id: DestId) -> Option<Candidate>;

    /// A destination by a number that was remembered across changes of the list: `None` if it is no longer configured
    /// or belongs to another service.
    fn recall(&self, id: DestId) -> Option<Candidate>;

    /// Calls [`Walk::step`] until it returns `true`, at most `steps` times; what has become of `walk`.
    fn walk<W: Walk>(&self, steps: u32, walk: W) -> W;

    /// Shows the destinations to `visit` in the order of the list, until it returns `true`; what has become of it. Those
    /// of weight 0 may be left out, and [`Candidate::next`] may be 0.
    #[inline(always)]
    fn show<V: Visit>(&self, visit: V) -> V {
        OneByOne::show(self, visit)
    }

    /// What [`best`](crate::sched::best) finds. The data plane has it in a global function, which the verifier follows once
    /// for all callers.
    fn best(&self, scheduler: u8) -> DestId;

    /// What [`lblc::has_idle`](crate::sched::lblc::has_idle) finds; likewise a global function of the data plane.
    fn has_idle(&self) -> bool;
}

/// A look at every destination of a list.
pub trait Visit {
    /// Looks at one; `true` ends it.
    fn visit(&mut self, dest: &Candidate) -> bool;
}

/// A look at every destination as a walk along the list.
pub struct OneByOne<V> {
    at: DestId,
    visit: V,
}

impl<V: Visit> OneByOne<V> {
    /// What has become of `visit` when it was shown the destinations.
    #[inline(always)]
    pub fn show<D: Destinations + ?Sized>(list: &D, visit: V) -> V {
        let walk = OneByOne { at: list.head(), visit };
        if walk.at.is_none() { walk.visit } else { list.walk(list.count(), walk).visit }
    }
}

impl<V: Visit> Walk for OneByOne<V> {
    #[inline(always)]
    fn step<D: Destinations + ?Sized>(&mut self, list: &D) -> bool {
        let Some(dest) = list.get(self.at) else { return true };
        self.at = dest.next;
        self.visit.visit(&dest) || self.at.is_none()
    }
}

/// One bounded loop of a scheduler.
pub trait Walk {
    /// One turn of the loop; `true` ends it.
    fn step<D: Destinations + ?Sized>(&mut self, list: &D) -> bool;
}

/// `id` if it is a usable destination of the list, else 0. Written as early returns: LLVM joins the conditions of a match
/// guard, and the verifier then sees a missing destination's fields being read.
#[inline(always)]
pub(super) fn usable<D: Destinations + ?Sized>(list: &D, id: DestId) -> DestId {
    if id.is_none() {
        return id;
    }
    let Some(dest) = list.get(id) else { return DestId::NONE };
    if dest.usable() { id } else { DestId::NONE }
}
