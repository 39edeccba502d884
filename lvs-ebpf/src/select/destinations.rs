//! The destinations of a service as the schedulers see them.

use core::{ffi::c_void, mem::MaybeUninit};

use crate::values::locality_key::LocalityKey;
use aya_ebpf::helpers::generated::bpf_loop;
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
    kernel::cpu,
    maps::{DESTS, LOCALITY, ROSTERS, SCRATCH, TABLES},
    values::scratch::{PAYLOAD, Scratch},
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
        let Some(place) = place::<W>() else { return walk };
        let mut turn = Turn { list: self, walk: place };
        // SAFETY: this CPU's own place; the callback is this program's own and gets the structure it expects.
        unsafe {
            place.write(walk);
            bpf_loop(steps, step::<W> as *mut c_void, (&raw mut turn).cast(), 0);
            place.read()
        }
    }

    #[inline(always)]
    fn show<V: Visit>(&self, visit: V) -> V {
        if self.roster == 0 {
            return OneByOne::show(self, visit);
        }
        let Some(place) = place::<V>() else { return visit };
        let mut reading = Reading { part: self.roster, visit: place };
        // A roster has no more parts than the list has destinations.
        // SAFETY: as in `walk`.
        unsafe {
            place.write(visit);
            bpf_loop(self.count, read::<V> as *mut c_void, (&raw mut reading).cast(), 0);
            place.read()
        }
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

/// [`sched::best`]; of global linkage, so that the verifier follows it once, for any list, and not again behind each way that
/// leads to it. Of the pointer it then only knows that it may be null.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn best_of(list: *const List, scheduler: u32) -> u32 {
    // SAFETY: null or the caller's.
    unsafe { list.as_ref() }.map_or(0, |list| sched::best(list, scheduler as u8).get())
}

/// [`lblc::has_idle`], likewise.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn has_idle(list: *const List) -> u32 {
    // SAFETY: as above.
    unsafe { list.as_ref() }.map_or(0, |list| lblc::has_idle(list) as u32)
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

/// Where the turns of a loop keep what they change, one loop at a time: an element of a map, of whose bytes the verifier knows
/// nothing. Of the stack's it does, and follows a turn once more for each combination of what it knows.
#[inline(always)]
fn place<T>() -> Option<*mut T> {
    const { assert!(size_of::<T>() <= PAYLOAD && align_of::<T>() <= 8) };
    SCRATCH.get_ptr_mut(cpu::number()).map(<*mut Scratch>::cast)
}

struct Reading<V> {
    part: u32,
    visit: *mut V,
}

/// Reads one part of a roster: the callback of `bpf_loop`.
extern "C" fn read<V: Visit>(_: u64, reading: *mut c_void) -> i64 {
    // SAFETY: `show` passed it, with this CPU's own place.
    let (at, visit) = unsafe {
        let reading = &mut *reading.cast::<Reading<V>>();
        (&mut reading.part, &mut *reading.visit)
    };
    let Some(part) = ROSTERS.get(*at) else { return 1 };
    *at = part.next;
    roster::show(part, |id| DESTS.get_ptr(id.get()).map(load), visit) as i64
}

struct Turn<'a, W> {
    list: &'a List,
    walk: *mut W,
}

/// One turn of a walk: the callback of `bpf_loop`.
extern "C" fn step<W: Walk>(_: u64, turn: *mut c_void) -> i64 {
    // SAFETY: `walk` passed it, with this CPU's own place.
    unsafe {
        let turn = &mut *turn.cast::<Turn<'_, W>>();
        (*turn.walk).step(turn.list) as i64
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
        let entry = LOCALITY.get_ptr_mut(LocalityKey { address: *address, service: self.service })?;
        let mut copy = MaybeUninit::<Entry>::uninit();
        let (from, to) = (entry.cast::<u64>(), copy.as_mut_ptr().cast::<u64>());
        // SAFETY: an element of the map, and a copy of it. By words, as the compiler would have a function copy it. Should the
        // map give the element to another address at the same moment, that is as good as used.
        unsafe {
            let used = &raw mut (*entry).used;
            if !is_fresh(used.read_volatile(), self.lifetime, now) {
                return None;
            }
            used.write_volatile(now);
            for word in 0..size_of::<Entry>() / 8 {
                to.add(word).write_volatile(from.add(word).read());
            }
            Some(copy.assume_init())
        }
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
