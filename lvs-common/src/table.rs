//! The connection table's logic: where a connection may stand, how it is found, put in and taken out.
//!
//! A hash of client address, client port and protocol gives two buckets of [`WAYS`] ways. A connection goes to its first
//! bucket unless that is nearly full and the second is emptier, and to one of the buckets after the second if both are
//! full. Every bucket that is passed by on this way counts an overflow, and only look-ups that miss in a bucket with
//! overflows read on. Like IPVS's, the hash leaves out everything but the client's side, so one entry serves both
//! directions, and a client that talks to many services from one port has as many entries with one hash.
//! In its bucket a connection takes the way that its hash names, if that is free. So a look-up reads the entry there first, and
//! nearly always the one line of memory that it reads is the connection's own: the bucket's line, with the tags of all ways, is
//! read if another connection was there first.
//! Buckets are locked to insert and remove; look-ups take no lock: an entry is [`DEAD`](conn_flags::DEAD) until all of it is
//! written and from its removal on, and its tag is written later still.

use crate::abi::{Bucket, Connection, IpAddress, WAYS, conn_flags};
use crate::byte_order::Be16;
use crate::verifier::Each;

/// Ways of a first bucket that are filled before the second choice is considered.
const RESERVE: u32 = 12;

/// Buckets that a connection may stand in: its two choices, and those after the second.
pub const PROBES: u32 = 8;

/// Access to one family's table. Pointers stay valid as long as the table; `None` only for an index out of range.
pub trait Store<A>: Each {
    /// How many buckets there are, never 0.
    fn buckets(&self) -> u32;
    /// Bucket `index`.
    fn bucket(&self, index: u32) -> Option<*mut Bucket>;
    /// Entry `index`.
    fn connection(&self, index: u32) -> Option<*mut Connection<A>>;
    /// Takes the bucket's lock, waiting a bounded time; `false` if it could not be had.
    fn lock(&self, bucket: *mut Bucket) -> bool;
    /// Gives the lock back, after everything written under it.
    fn unlock(&self, bucket: *mut Bucket);
    /// Adds to a counter that CPUs holding different locks change.
    fn add(&self, counter: *mut u32, amount: u32);
    /// Lowers the bucket's [`Bucket::due`] to `due` if it is later.
    fn lower_due(&self, bucket: *mut Bucket, due: u64);
    /// Orders the stores before it before those after it, for readers without the lock.
    fn barrier(&self, bucket: *mut Bucket);
    /// [`probe_with_room`], which a store may keep in a place of its own: it is asked rarely.
    #[inline(always)]
    fn probe_with_room(&self, hash: Hash) -> Option<u32>
    where
        Self: Sized,
    {
        probe_with_room(self, hash)
    }
    /// [`count_overflow`], in the same way.
    #[inline(always)]
    fn count_overflow(&self, hash: Hash, probe: u32, amount: u32)
    where
        Self: Sized,
    {
        count_overflow(self, hash, probe, amount);
    }
}

/// What an entry is looked for by.
pub trait Wanted<A> {
    /// Whether this is the entry.
    fn is(&self, connection: &Connection<A>) -> bool;

    /// Index of the entry, from a look at every one with the tag of this hash in every bucket that a connection of this hash
    /// can be in. It is asked rarely, and much to verify: a function of its own may answer.
    #[inline(always)]
    fn search<S: Store<A>>(&self, store: &S, hash: Hash) -> Option<u32>
    where
        Self: Sized,
    {
        search(store, hash, self)
    }
}

impl<A, F: Fn(&Connection<A>) -> bool> Wanted<A> for F {
    #[inline(always)]
    fn is(&self, connection: &Connection<A>) -> bool {
        self(connection)
    }
}

/// Hash of a client's side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash(pub u64);

/// Hashes client address, client port and protocol with a secret that is drawn when the table is made, so that nobody
/// outside can fill one bucket on purpose.
#[inline(always)]
pub fn hash<A: IpAddress>(client: A, client_port: Be16, protocol: u8, secret: u64) -> Hash {
    let (low, high) = client.words();
    let mut h = (low as u64 | (client_port.word() as u64) << 32 | (protocol as u64) << 48) ^ secret;
    if A::HEADER > 20 {
        h = (h ^ (h >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ ((high as u64) << 17);
    }
    h = (h ^ (h >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    h = (h ^ (h >> 32)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    Hash(h ^ (h >> 29))
}

/// Hash of a template: nobody looks for one by its client alone, and a client (or, under a short mask, many) may have one
/// for each of many services. `engine` is what a persistence engine keyed it with, 0 without one.
#[inline(always)]
pub fn template_hash<A: IpAddress>(
    client: A,
    virt: A,
    virt_port: Be16,
    protocol: u8,
    engine: u64,
    secret: u64,
) -> Hash {
    let (low, high) = virt.words();
    let virt = (low as u64 | (high as u64) << 32).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash(client, virt_port, protocol, secret ^ virt.rotate_left(23) ^ engine)
}

impl Hash {
    /// Tag of a way that holds such a connection, never 0.
    #[inline(always)]
    pub const fn tag(self) -> u16 {
        (self.0 >> 48) as u16 | 1
    }

    /// The way that such a connection takes if it is free.
    #[inline(always)]
    pub const fn way(self) -> u32 {
        (self.0 >> 32) as u32 & (WAYS - 1)
    }

    /// The first choice among `buckets`.
    #[inline(always)]
    pub const fn first(self, buckets: u32) -> u32 {
        (((self.0 as u32) as u64 * buckets as u64) >> 32) as u32
    }

    /// The second choice.
    #[inline(always)]
    pub const fn second(self, buckets: u32) -> u32 {
        let mixed = (self.0 >> 16) as u32 ^ (self.0 as u32).rotate_left(11);
        ((mixed.wrapping_mul(0x9e37_79b1) as u64 * buckets as u64) >> 32) as u32
    }

    /// Choice number `probe` among `buckets`: the first, the second, and those after the second.
    #[inline(always)]
    pub const fn choice(self, probe: u32, buckets: u32) -> u32 {
        if probe == 0 {
            return self.first(buckets);
        }
        match self.second(buckets).wrapping_add(probe.wrapping_sub(1)).checked_rem(buckets) {
            Some(index) => index,
            None => 0,
        }
    }
}

/// Index of the entry for `way` of `bucket`.
#[inline(always)]
pub const fn entry(bucket: u32, way: u32) -> u32 {
    bucket.wrapping_mul(WAYS).wrapping_add(way)
}

/// The tag of a way.
///
/// # Safety
///
/// The bucket is one of a store's.
#[inline(always)]
pub unsafe fn tag_at(bucket: *mut Bucket, way: u32) -> u16 {
    // SAFETY: as above; `way` is masked to the tags' number. Volatile, as other CPUs write.
    unsafe { (&raw mut (*bucket).tags).cast::<u16>().add((way & (WAYS - 1)) as usize).read_volatile() }
}

#[inline(always)]
fn set_tag(bucket: *mut Bucket, way: u32, tag: u16) {
    // SAFETY: as in `tag_at`; the caller holds the lock.
    unsafe { (&raw mut (*bucket).tags).cast::<u16>().add((way & (WAYS - 1)) as usize).write_volatile(tag) }
}

/// Which of four tags equal `tag`, a bit each.
///
/// All four are compared at once and without a branch: each branch would double the paths that the verifier follows.
#[inline(always)]
const fn equal(tags: u64, tag: u16) -> u64 {
    const LOW: u64 = 0x7fff_7fff_7fff_7fff;
    // Bits 0, 16, 32 and 48, moved to 48, 49, 50 and 51; no two products meet.
    const GATHER: u64 = 1 << 48 | 1 << 33 | 1 << 18 | 1 << 3;
    let differing = tags ^ (tag as u64).wrapping_mul(0x0001_0001_0001_0001);
    let equal = !(((differing & LOW).wrapping_add(LOW)) | differing | LOW);
    ((equal >> 15).wrapping_mul(GATHER) >> 48) & 15
}

/// The ways of a bucket whose tag is `tag`, a bit each.
#[inline(always)]
fn ways(bucket: *mut Bucket, tag: u16) -> u64 {
    // SAFETY: a bucket of the store; volatile, as other CPUs write.
    let word = |n: usize| unsafe { (&raw const (*bucket).tags).cast::<u64>().add(n).read_volatile() };
    equal(word(0), tag) | equal(word(1), tag) << 4 | equal(word(2), tag) << 8 | equal(word(3), tag) << 12
}

/// The lowest of up to 16 bits that are not all 0.
#[inline(always)]
const fn lowest(bits: u64) -> u32 {
    /// A de Bruijn sequence of order 4: its four bits from each position on are unique.
    const SEQUENCE: u64 = 0x09af;
    /// Which position begins with four bits of this value, a nibble each.
    const POSITIONS: u64 = positions();
    const fn positions() -> u64 {
        let mut positions = 0;
        let mut bit = 0;
        while bit < 16 {
            positions |= bit << (((SEQUENCE << bit) >> 12 & 15) * 4);
            bit += 1;
        }
        positions
    }
    let lowest = bits & bits.wrapping_neg();
    let begin = (lowest.wrapping_mul(SEQUENCE) >> 12) & 15;
    (POSITIONS >> (begin * 4)) as u32 & 15
}

/// Finds the connection with this hash that is `wanted`: its index and itself.
///
/// Nearly always it is in the way that its hash names of its first bucket, or else it is the first entry there with its tag.
/// Everything else is left to [`Wanted::search`].
#[inline(always)]
pub fn find<A, S: Store<A>>(store: &S, hash: Hash, wanted: &impl Wanted<A>) -> Option<(u32, *mut Connection<A>)> {
    let index = hash.first(store.buckets());
    let at = entry(index, hash.way());
    let connection = store.connection(at)?;
    // SAFETY: an entry of the store. Other CPUs may write to it; every value of its plain fields is valid.
    if unsafe { wanted.is(&*connection) && is_in(connection) } {
        return Some((at, connection));
    }
    let bucket = store.bucket(index)?;
    let candidates = ways(bucket, hash.tag());
    if candidates != 0 {
        let at = entry(index, lowest(candidates));
        let connection = store.connection(at)?;
        // SAFETY: as above.
        if wanted.is(unsafe { &*connection }) {
            return Some((at, connection));
        }
    }
    if candidates & candidates.wrapping_sub(1) == 0 && overflow_of(bucket) == 0 {
        return None;
    }
    let at = wanted.search(store, hash)?;
    Some((at, store.connection(at)?))
}

/// Whether an entry is in the table, without a look at its tag.
///
/// # Safety
///
/// The entry is one of a store's.
#[inline(always)]
unsafe fn is_in<A>(connection: *mut Connection<A>) -> bool {
    // SAFETY: as above; volatile, as other CPUs write.
    unsafe { (&raw const (*connection).state).read_volatile() & conn_flags::DEAD == 0 }
}

/// [`Wanted::search`].
#[inline(always)]
pub fn search<A, S: Store<A>>(store: &S, hash: Hash, wanted: &impl Wanted<A>) -> Option<u32> {
    // One structure that both loops share: the stack has no room for one of each.
    let s = &mut Search { hash, wanted, index: 0, candidates: 0, found: None };
    store.each(PROBES, &mut |probe| {
        s.index = s.hash.choice(probe, store.buckets());
        let Some(bucket) = store.bucket(s.index) else { return true };
        s.candidates = ways(bucket, s.hash.tag());
        // Nearly always there is none or one. A client that talks to many services from one port has more.
        if s.candidates != 0 {
            store.each(WAYS, &mut |_| s.look_at_next(store));
        }
        s.found.is_some() || overflow_of(bucket) == 0
    });
    s.found
}

/// A search that goes on.
struct Search<'a, W> {
    hash: Hash,
    wanted: &'a W,
    /// The bucket at hand.
    index: u32,
    /// Its ways that have the tag and were not looked at yet, a bit each.
    candidates: u64,
    found: Option<u32>,
}

impl<W> Search<'_, W> {
    /// Looks at one more candidate: whether it was the last, or the one.
    #[inline(always)]
    fn look_at_next<A, S: Store<A>>(&mut self, store: &S) -> bool
    where
        W: Wanted<A>,
    {
        let at = entry(self.index, lowest(self.candidates));
        self.candidates &= self.candidates.wrapping_sub(1);
        let Some(connection) = store.connection(at) else { return true };
        // SAFETY: an entry of the store, as in `find`.
        if self.wanted.is(unsafe { &*connection }) {
            self.found = Some(at);
        }
        self.found.is_some() || self.candidates == 0
    }
}

/// How many connections have passed a bucket by.
#[inline(always)]
fn overflow_of(bucket: *mut Bucket) -> u32 {
    // SAFETY: a bucket of the store; volatile, as other CPUs write.
    unsafe { (&raw const (*bucket).overflow).read_volatile() }
}

/// Why a connection was not put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertError {
    /// No bucket that it may stand in has room.
    Full,
    /// Another CPU holds a bucket for long.
    Busy,
    /// Such a connection is there already, at this index.
    Exists(u32),
}

/// Puts a connection in, unless the one that is `wanted` is there: finds it a way and has `fill` write the entry before anybody can
/// find it. What `fill` writes is [`DEAD`](conn_flags::DEAD) from its first word on.
///
/// `due` is when it may expire at the earliest (jiffies): the bucket is not swept later than that.
#[inline(always)]
pub fn insert<A, S: Store<A>>(
    store: &S,
    hash: Hash,
    due: u64,
    wanted: &impl Wanted<A>,
    fill: impl FnOnce(*mut Connection<A>),
) -> Result<(u32, *mut Connection<A>), InsertError> {
    let Some(first) = store.bucket(hash.first(store.buckets())) else { return Err(InsertError::Full) };
    // The first bucket's lock serialises everybody who would insert the same connection.
    if !store.lock(first) {
        return Err(InsertError::Busy);
    }
    let result = insert_locked(store, hash, first, due, wanted, fill);
    store.unlock(first);
    result
}

#[inline(always)]
fn insert_locked<A, S: Store<A>>(
    store: &S,
    hash: Hash,
    first: *mut Bucket,
    due: u64,
    wanted: &impl Wanted<A>,
    fill: impl FnOnce(*mut Connection<A>),
) -> Result<(u32, *mut Connection<A>), InsertError> {
    // Nearly always no entry has its tag, and none was passed by.
    let may_exist = ways(first, hash.tag()) != 0 || overflow_of(first) != 0;
    if may_exist && let Some(at) = wanted.search(store, hash) {
        return Err(InsertError::Exists(at));
    }
    // SAFETY: a bucket of the store.
    let has_room = unsafe { (&raw const (*first).used).read_volatile() } < RESERVE;
    let probe = if has_room { 0 } else { store.probe_with_room(hash).ok_or(InsertError::Full)? };
    let index = hash.choice(probe, store.buckets());
    let bucket = store.bucket(index).ok_or(InsertError::Full)?;
    if probe == 0 || index == hash.first(store.buckets()) {
        return place(store, hash, due, index, bucket, fill);
    }
    if !store.lock(bucket) {
        return Err(InsertError::Busy);
    }
    let result = place(store, hash, due, index, bucket, fill);
    if result.is_ok() && probe != 0 {
        store.count_overflow(hash, probe, 1);
    }
    store.unlock(bucket);
    result
}

/// The choice that a connection goes to: the first, unless that is nearly full and the second emptier; the next one with
/// room if both are full.
#[inline(always)]
pub fn probe_with_room<A, S: Store<A>>(store: &S, hash: Hash) -> Option<u32> {
    let (mut first, mut choice) = (0, None);
    store.each(PROBES, &mut |probe| {
        let Some(bucket) = store.bucket(hash.choice(probe, store.buckets())) else { return true };
        // SAFETY: a bucket of the store.
        let used = unsafe { (&raw const (*bucket).used).read_volatile() };
        if probe == 0 {
            first = used;
            if used < WAYS {
                choice = Some(0);
            }
            return used < RESERVE;
        }
        if used < WAYS && (choice.is_none() || used < first) {
            choice = Some(probe);
        }
        choice.is_some()
    });
    choice
}

/// Counts `amount` overflows at the buckets before choice `probe`.
#[inline(always)]
pub fn count_overflow<A, S: Store<A>>(store: &S, hash: Hash, probe: u32, amount: u32) {
    store.each(PROBES, &mut move |passed| {
        if passed >= probe {
            return true;
        }
        if let Some(bucket) = store.bucket(hash.choice(passed, store.buckets())) {
            // SAFETY: a bucket of the store.
            store.add(unsafe { &raw mut (*bucket).overflow }, amount);
        }
        false
    });
}

/// Takes a free way of a locked bucket.
#[inline(always)]
fn place<A, S: Store<A>>(
    store: &S,
    hash: Hash,
    due: u64,
    index: u32,
    bucket: *mut Bucket,
    fill: impl FnOnce(*mut Connection<A>),
) -> Result<(u32, *mut Connection<A>), InsertError> {
    let free = ways(bucket, 0);
    if free == 0 {
        return Err(InsertError::Full);
    }
    let way = if free >> hash.way() & 1 != 0 { hash.way() } else { lowest(free) };
    let at = entry(index, way);
    let connection = store.connection(at).ok_or(InsertError::Full)?;
    fill(connection);
    // SAFETY: a bucket of the store, locked.
    unsafe {
        (*bucket).used = (*bucket).used.wrapping_add(1);
        (*bucket).barren = 0;
    }
    store.barrier(bucket);
    // SAFETY: an entry of the store, which nobody changes while it is dead.
    unsafe {
        let state = &raw mut (*connection).state;
        state.write_volatile(state.read_volatile() & !conn_flags::DEAD);
    }
    set_tag(bucket, way, hash.tag());
    // After the tag: a sweep that has passed by before it sees the bucket's time lowered.
    store.lower_due(bucket, due);
    Ok((at, connection))
}

/// Takes entry `at` out if it still is what `dead` says to remove, which it is asked under the bucket's lock; `hash` is that
/// of its client's side. Returns whether it was taken out by this call.
#[inline(always)]
pub fn remove<A, S: Store<A>>(store: &S, at: u32, hash: Hash, dead: impl Fn(&Connection<A>) -> bool) -> bool {
    remove_beside(store, at, hash, None, dead)
}

/// The same for a caller that has the lock of bucket `held` already, and keeps it.
#[inline(always)]
pub fn remove_beside<A, S: Store<A>>(
    store: &S,
    at: u32,
    hash: Hash,
    held: Option<u32>,
    dead: impl Fn(&Connection<A>) -> bool,
) -> bool {
    let (index, way) = (at / WAYS, at % WAYS);
    let (Some(bucket), Some(connection)) = (store.bucket(index), store.connection(at)) else { return false };
    let is_held = held == Some(index);
    if !is_held && !store.lock(bucket) {
        return false;
    }
    // SAFETY: a bucket and an entry of the store.
    let gone = unsafe { tag_at(bucket, way) == hash.tag() && dead(&*connection) };
    if gone {
        // SAFETY: an entry of the store; a packet that still holds it changes nothing from here on.
        unsafe { (&raw mut (*connection).state).write_volatile(conn_flags::DEAD) };
        set_tag(bucket, way, 0);
        // SAFETY: a bucket of the store, locked.
        unsafe { (*bucket).used = (*bucket).used.wrapping_sub(1) };
    }
    if !is_held {
        store.unlock(bucket);
    }
    if gone && index != hash.first(store.buckets()) {
        store.count_overflow(hash, probe_of(store, hash, index), u32::MAX);
    }
    gone
}

/// Which choice of `hash` bucket `index` is: that after the first which it is not.
#[inline(always)]
fn probe_of<A, S: Store<A>>(store: &S, hash: Hash, index: u32) -> u32 {
    let (second, buckets) = (hash.second(store.buckets()), store.buckets());
    let unwrapped = if index >= second { index } else { index.wrapping_add(buckets) };
    unwrapped.wrapping_sub(second).wrapping_add(1)
}

#[cfg(test)]
mod tests;
