//! Room for a new entry: in a full table, what is worth least gives way. See [`lvs_common::evict`].

use core::marker::PhantomData;

use crate::{
    kernel::{
        cpu,
        global::global_fn,
        loops::{self, Turn},
        params,
        shared::{element, field},
    },
    maps::{LOCALS, SCRATCH},
    stats,
    table::{alias, entry::Entry, find, release, store},
};
use lvs_common::{
    abi::{EntryKind, EntryRef, IpAddress, WAYS},
    evict::{self, Worth},
    exit::Exit,
    table::{self, Hash, PROBES},
};

/// Whether there is room for an entry of this hash.
#[inline(always)]
fn is_left<A: IpAddress>(hash: Hash) -> bool {
    let Some(first) = store::bucket::<A>(hash.first(buckets::<A>())) else { return false };
    field!(first.used).load() < WAYS || store::probe_with_room::<A>(hash.0) < PROBES
}

/// Whether there is room for the alias of a drafted connection, in the table of its real server's family.
#[inline(always)]
pub fn is_left_for_alias<A: IpAddress>(draft: Entry<A>) -> bool {
    let Some(hash) = hash_of_alias(draft) else { return false };
    if draft.is_crossed() { is_left::<A::Other>(hash) } else { is_left::<A>(hash) }
}

/// Hash of the alias that a drafted connection is to have.
#[inline(always)]
pub fn hash_of_alias<A: IpAddress>(draft: Entry<A>) -> Option<Hash> {
    let d = draft.get();
    if !d.is_crossed() {
        return Some(find::hash(d.local, d.local_port, d.protocol));
    }
    let local = LOCALS.get(d.local_id)?;
    Some(find::hash(A::Other::narrow(local.address), d.local_port, d.protocol))
}

/// Has what is worth least give way to an entry of this hash, but not the `template` that it comes with; `false` if nothing may.
#[inline(always)]
pub fn make<A: IpAddress>(hash: Hash, now: u64, epoch: u64, template: EntryRef) -> bool {
    let found = choose::<A>(hash, now, template.index());
    let worth = found.worth();
    if worth == Worth::KEPT {
        return false;
    }
    // If it is worth more by now, or gone, the caller tries again.
    if found.is_crossed() {
        evict_entry::<A::Other>(found.at(), worth.get(), now, epoch);
    } else {
        evict_entry::<A>(found.at(), worth.get(), now, epoch);
    }
    true
}

#[inline(always)]
fn buckets<A: IpAddress>() -> u32 {
    if A::IS_V4 { params::buckets4() } else { params::buckets6() }
}

/// What gives way to an entry of this hash.
#[inline(always)]
fn choose<A: IpAddress>(hash: Hash, now: u64, template: u32) -> Found {
    let mut looking = Buckets::<A> { hash, now, template, found: Found::NOTHING, family: PhantomData };
    loops::repeat(PROBES, &mut looking);
    looking.found
}

/// An entry that may give way, as a number: its index, the way of the bucket where it (or its alias) is, its worth, and whether it
/// is one of the other family's table.
#[derive(Clone, Copy)]
struct Found(u64);

impl Found {
    /// Everything is kept.
    const NOTHING: Self = Found((Worth::KEPT.get() as u64) << 40);

    #[inline(always)]
    fn new(at: u32, way: u32, worth: Worth, is_crossed: bool) -> Self {
        Found(at as u64 | (way as u64) << 32 | (worth.get() as u64) << 40 | (is_crossed as u64) << 48)
    }

    #[inline(always)]
    fn at(self) -> u32 {
        self.0 as u32
    }

    #[inline(always)]
    fn way(self) -> u32 {
        (self.0 >> 32) as u32 & (WAYS - 1)
    }

    #[inline(always)]
    fn worth(self) -> Worth {
        Worth::new((self.0 >> 40) as u32 & 15)
    }

    #[inline(always)]
    fn is_crossed(self) -> bool {
        self.0 >> 48 != 0
    }
}

global_fn! {
    /// Takes entry `at` out, if it still is worth no more than `worth`, and counts it: whether it is gone.
    fn evict_entry<A>(at: u32, worth: u32, now: u64, epoch: u64) -> u32 = evict4, evict6 => evict
}

fn evict<A: IpAddress>(at: u32, worth: u32, now: u64, epoch: u64) -> u32 {
    let Some(entry) = store::entry::<A>(at) else { return 0 };
    let worth = Worth::new(worth);
    let gone = release::remove(at, entry, epoch, |c| evict::worth(c, now).rank() <= worth.rank());
    if gone {
        stats::exit(exit(worth));
    }
    gone as u32
}

/// Looks through a bucket in a turn: the first two, and the others while nothing is found.
struct Buckets<A> {
    hash: Hash,
    now: u64,
    /// Index of a template that is kept.
    template: u32,
    found: Found,
    family: PhantomData<A>,
}

impl<A: IpAddress> Turn for Buckets<A> {
    #[inline(always)]
    fn turn(&mut self, probe: u32) -> bool {
        if probe > 1 && self.found.worth() != Worth::KEPT {
            return true;
        }
        let found = Found(look_through::<A>(self.hash.choice(probe, buckets::<A>()), self.now, self.template));
        if found.worth().rank() < self.found.worth().rank() {
            self.found = found;
        }
        found.worth().suffices()
    }
}

global_fn! {
    /// The entry of least worth of a bucket, as a number: see [`Found`].
    fn look_through<A>(bucket: u32, now: u64, template: u32) -> u64 = look_through4, look_through6 => look_for_least
}

fn look_for_least<A: IpAddress>(index: u32, now: u64, template: u32) -> u64 {
    let Some(bucket) = store::bucket::<A>(index) else { return Found::NOTHING.0 };
    let (barren, hand) = (field!(bucket.barren), field!(bucket.hand));
    if now.wrapping_sub(barren.load()) < params::hz() as u64 {
        return Found::NOTHING.0;
    }
    let Some(scratch) = element(&SCRATCH, cpu::number()) else { return Found::NOTHING.0 };
    let zero = field!(scratch.zero).load();
    let mut looking = Looking::<A> {
        bucket: index,
        hand: hand.load(),
        now,
        template,
        zero,
        found: Found::NOTHING,
        family: PhantomData,
    };
    loops::repeat(WAYS, &mut looking);
    let found = looking.found;
    if found.worth() == Worth::KEPT {
        barren.store(now);
    } else {
        hand.store(found.way().wrapping_add(1) & (WAYS - 1));
    }
    found.0
}

/// Looks at an entry of a bucket in a turn.
struct Looking<A> {
    bucket: u32,
    /// The way to begin at.
    hand: u32,
    now: u64,
    /// Index of a template that is kept.
    template: u32,
    /// [`Scratch::zero`](crate::values::scratch::Scratch): added to a result, it makes the verifier forget which it is.
    zero: u64,
    found: Found,
    family: PhantomData<A>,
}

impl<A: IpAddress> Turn for Looking<A> {
    #[inline(always)]
    fn turn(&mut self, n: u32) -> bool {
        let way = n.wrapping_add(self.hand) & (WAYS - 1);
        let at = table::entry(self.bucket, way);
        let Some(entry) = store::entry::<A>(at) else { return true };
        let (main, worth, is_crossed) = match entry.kind {
            EntryKind::ALIAS => {
                let Some((main, connection)) = find::resolve(at, entry) else { return false };
                (main, evict::worth(connection.get(), self.now), false)
            }
            EntryKind::CROSSED => {
                let Some((main, connection)) = alias::connection_of::<A, A::Other>(at, entry.get()) else {
                    return false;
                };
                (main, evict::worth(connection.get(), self.now), true)
            }
            EntryKind::TEMPLATE if at == self.template => return false,
            _ => (at, evict::worth(entry.get(), self.now), false),
        };
        let found = Found(Found::new(main, way, worth, is_crossed).0.wrapping_add(self.zero));
        if found.worth().rank() < self.found.worth().rank() {
            self.found = found;
        }
        found.worth().suffices()
    }
}

/// What counts an eviction.
#[inline(always)]
const fn exit(worth: Worth) -> Exit {
    match worth {
        Worth::EXPIRED => Exit::EvictedExpired,
        Worth::CLOSED => Exit::EvictedClosed,
        Worth::HALF_OPEN => Exit::EvictedHalfOpen,
        Worth::ONE_PACKET => Exit::EvictedOnePacket,
        Worth::TEMPLATE => Exit::EvictedTemplate,
        _ => Exit::EvictedClosing,
    }
}
