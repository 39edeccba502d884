//! The destinations of a service as the schedulers see them.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use lvs_common::{
    abi::{DestId, Destination, ServiceId},
    sched::{
        Candidate, Destinations, OneByOne, Table, Visit, Walk,
        locality::{Entry, Locality},
        roster,
    },
};

use crate::{
    maps::{DESTS, LOCALITY, LocalityKey, ROSTERS, TABLES},
    track::Dest,
};

/// The list of a service's configuration at one epoch.
#[derive(Clone, Copy)]
pub struct List {
    pub head: DestId,
    pub count: u32,
    pub service: ServiceId,
    pub epoch: u64,
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
        let dest = Dest::get(id, self.epoch)?;
        let config = dest.config();
        let (connections, overloaded) = load(dest.it);
        let (active, inactive) = Destination::split(connections);
        Some(Candidate { id, weight: config.weight, active, inactive, overloaded, next: config.next })
    }

    #[inline(always)]
    fn recall(&self, id: DestId) -> Option<Candidate> {
        let dest = Dest::get(id, self.epoch)?;
        // SAFETY: an element of the map.
        if !dest.available() || unsafe { (*dest.it).service } != self.service {
            return None;
        }
        self.get(id)
    }

    #[inline(always)]
    fn walk<W: Walk>(&self, steps: u32, walk: &mut W) {
        let mut turn = Turn { list: *self, walk };
        // SAFETY: the callback is this program's own and gets the structure it expects.
        unsafe { bpf_loop(steps, step::<W> as *mut c_void, (&raw mut turn).cast(), 0) };
    }

    #[inline(always)]
    fn show<V: Visit>(&self, visit: V) -> V {
        if self.roster == 0 {
            return OneByOne::show(self, visit);
        }
        let mut reading = Reading { part: self.roster, visit };
        // A roster has no more parts than the list has destinations.
        // SAFETY: the callback is this program's own and gets the structure it expects.
        unsafe { bpf_loop(self.count, read::<V> as *mut c_void, (&raw mut reading).cast(), 0) };
        reading.visit
    }
}

/// A destination's connections, and whether it is overloaded.
#[inline(always)]
fn load(dest: *const Destination) -> (u64, bool) {
    // SAFETY: an element of the map; both are read as wholes.
    unsafe {
        let (connections, overloaded) = (&raw const (*dest).connections, &raw const (*dest).overloaded);
        (connections.read_volatile(), overloaded.read_volatile() != 0)
    }
}

struct Reading<V> {
    part: u32,
    visit: V,
}

/// Reads one part of a roster: the callback of `bpf_loop`.
extern "C" fn read<V: Visit>(_: u64, reading: *mut c_void) -> i64 {
    // SAFETY: `show` passed it.
    let reading = unsafe { &mut *reading.cast::<Reading<V>>() };
    let Some(part) = ROSTERS.get(reading.part) else { return 1 };
    reading.part = part.next;
    roster::show(part, |id| DESTS.get_ptr(id).map(load), &mut reading.visit) as i64
}

struct Turn<'a, W> {
    list: List,
    walk: &'a mut W,
}

/// One turn of a walk: the callback of `bpf_loop`.
extern "C" fn step<W: Walk>(_: u64, turn: *mut c_void) -> i64 {
    // SAFETY: `walk` passed it.
    let turn = unsafe { &mut *turn.cast::<Turn<'_, W>>() };
    turn.walk.step(&turn.list) as i64
}

/// A table of `TABLES`.
#[derive(Clone, Copy)]
pub struct Slots(pub u32);

impl Table for Slots {
    #[inline(always)]
    fn slot(&self, index: u32) -> DestId {
        TABLES.get_value(self.0, &index).copied().unwrap_or(0)
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
    fn get(&self, address: &lvs_common::abi::Address) -> Option<Entry> {
        // SAFETY: copied at once.
        unsafe { LOCALITY.get(LocalityKey { address: *address, service: self.service }).copied() }
    }

    #[inline(always)]
    fn put(&self, address: &lvs_common::abi::Address, entry: &Entry) {
        // A full map evicts the entry unused for longest; without room the next connection picks anew.
        let _ = LOCALITY.insert(LocalityKey { address: *address, service: self.service }, entry, 0);
    }

    #[inline(always)]
    fn lifetime(&self) -> u64 {
        self.lifetime
    }
}
