//! The destinations of a service as the schedulers see them.

use lvs_common::{
    abi::{Address, DestId, Destination, ServiceId},
    sched::{
        self, Candidate, Destinations, OneByOne, Table, Visit, Walk, lblc,
        locality::{Entry, Locality, is_fresh},
        roster,
    },
};

use crate::{
    config::destination::DestRef,
    kernel::{
        cpu,
        global::global_fn,
        loops::{Turn, repeat},
        shared::{Shared, element, field, value},
    },
    maps::{DESTS, LOCALITY, ROSTERS, SCRATCH, TABLES},
    values::{
        locality_key::LocalityKey,
        scratch::{PAYLOAD, Scratch},
    },
};

/// The list of a service's configuration at one epoch. Without padding, which Linux 6.1 takes for bytes of the stack that a
/// function is given unwritten.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct List {
    pub epoch: u64,
    pub head: DestId,
    pub count: u32,
    pub service: ServiceId,
    /// First part of its roster, 0 if it has none.
    pub roster: u32,
}

impl Destinations for List {
    #[inline(always)]
    fn head(&self) -> DestId {
        self.head
    }

    #[inline(always)]
    fn count(&self) -> u32 {
        self.count
    }

    #[inline(always)]
    fn get(&self, id: DestId) -> Option<Candidate> {
        let dest = DestRef::get(id, self.epoch)?;
        let config = dest.config();
        let (connections, overloaded) = load(dest.it);
        let (active, inactive) = Destination::split(connections);
        Some(Candidate { id, weight: config.weight, active, inactive, overloaded, next: config.next })
    }

    #[inline(always)]
    fn recall(&self, id: DestId) -> Option<Candidate> {
        let dest = DestRef::get(id, self.epoch)?;
        if !dest.available() || dest.service() != self.service {
            return None;
        }
        self.get(id)
    }

    #[inline(always)]
    fn walk<W: Walk>(&self, steps: u32, walk: W) -> W {
        in_scratch(walk, |walk| repeat(steps, &mut |_| walk.step(self)))
    }

    #[inline(always)]
    fn show<V: Visit>(&self, visit: V) -> V {
        if self.roster == 0 {
            return OneByOne::show(self, visit);
        }
        // A roster has no more parts than the list has destinations.
        in_scratch(visit, |visit| repeat(self.count, &mut Reading { part: self.roster, visit }))
    }

    #[inline(always)]
    fn best(&self, scheduler: u8) -> DestId {
        DestId::new(best_of(self, scheduler as u32))
    }

    #[inline(always)]
    fn has_idle(&self) -> bool {
        has_idle(self) != 0
    }
}

global_fn! {
    /// [`sched::best`].
    fn best_of(list: &List, scheduler: u32) -> u32 = best_of_list => best
}

fn best(list: &List, scheduler: u32) -> u32 {
    sched::best(list, scheduler as u8).get()
}

global_fn! {
    /// [`lblc::has_idle`].
    fn has_idle(list: &List) -> u32 = list_has_idle => find_idle
}

fn find_idle(list: &List) -> u32 {
    lblc::has_idle(list) as u32
}

/// A destination's connections, and whether it is overloaded.
#[inline(always)]
fn load(dest: Shared<Destination>) -> (u64, bool) {
    (field!(dest.connections).load(), field!(dest.overloaded).load() != 0)
}

/// Has `state` in this CPU's memory while `work` changes it: what has become of it. See "loop state" in
/// docs/develop/verifier.md.
#[inline(always)]
fn in_scratch<T>(state: T, work: impl FnOnce(&mut T)) -> T {
    const { assert!(size_of::<T>() <= PAYLOAD && align_of::<T>() <= 8) };
    let Some(place) = SCRATCH.get_ptr_mut(cpu::number()).map(<*mut Scratch>::cast::<T>) else { return state };
    // SAFETY: this CPU's own element, which is large enough. Schedulers run one loop at a time, and nothing else in it.
    unsafe {
        place.write(state);
        work(&mut *place);
        place.read()
    }
}

/// A loop over the parts of a roster.
struct Reading<'a, V> {
    part: u32,
    visit: &'a mut V,
}

impl<V: Visit> Turn for Reading<'_, V> {
    #[inline(always)]
    fn turn(&mut self, _: u32) -> bool {
        let Some(part) = ROSTERS.get(self.part) else { return true };
        self.part = part.next;
        roster::show(part, |id| element(&DESTS, id.get()).map(load), self.visit)
    }
}

/// A table of `TABLES`.
#[derive(Clone, Copy)]
pub struct Slots(pub u32);

impl Table for Slots {
    #[inline(always)]
    fn slot(&self, index: u32) -> DestId {
        DestId::new(TABLES.get_value(self.0, &index).copied().unwrap_or(0))
    }
}

/// What lblc and lblcr remember for a service.
#[derive(Clone, Copy)]
pub struct Memory {
    pub service: ServiceId,
    pub lifetime: u64,
}

impl Locality for Memory {
    #[inline(always)]
    fn fresh(&self, address: &Address, now: u64) -> Option<Entry> {
        // Should the map give the element to another address at the same moment, that is as good as used.
        let entry = value(&LOCALITY, &LocalityKey { address: *address, service: self.service })?;
        let used = field!(entry.used);
        if !is_fresh(used.load(), self.lifetime, now) {
            return None;
        }
        used.store(now);
        Some(entry.load())
    }

    #[inline(always)]
    fn put(&self, address: &Address, entry: &Entry) {
        // A full map evicts the entry unused for longest; without room the next connection picks anew.
        let _ = LOCALITY.insert(LocalityKey { address: *address, service: self.service }, entry, 0);
    }

    #[inline(always)]
    fn lifetime(&self) -> u64 {
        self.lifetime
    }
}
