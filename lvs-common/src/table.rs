//! The connection table's logic: where a connection may stand, how it is found, put in and taken out.
//!
//! A hash of client address, client port and protocol gives two buckets of [`WAYS`] ways. A connection goes to its first
//! bucket unless that is nearly full and the second is emptier; the first then counts an overflow, and only look-ups that
//! miss in a bucket with overflows read a second one. Like IPVS's, the hash leaves out everything but the client's side, so
//! one entry serves both directions. Buckets are locked to insert and remove; look-ups take no lock: an entry is
//! written before its tag, and compared after it.

use crate::abi::{Bucket, Connection, IpAddress, WAYS};

/// Ways of a first bucket that are filled before the second choice is considered.
const RESERVE: u32 = 12;

/// Access to one family's table. Pointers stay valid as long as the table; `None` only for an index out of range.
pub trait Store<A> {
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
    fn sooner(&self, bucket: *mut Bucket, due: u64);
    /// Orders the stores before it before those after it, for readers without the lock.
    fn barrier(&self, bucket: *mut Bucket);
}

/// Hash of a client's side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash(pub u64);

/// Hashes client address, client port and protocol with a secret that is drawn when the table is made, so that nobody
/// outside can fill one bucket on purpose.
#[inline(always)]
pub fn hash<A: IpAddress>(client: A, client_port: u16, protocol: u8, secret: u64) -> Hash {
    let (low, high) = client.words();
    let mut h = (low as u64 | (client_port as u64) << 32 | (protocol as u64) << 48) ^ secret;
    if A::HEADER > 20 {
        h = (h ^ (h >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ ((high as u64) << 17);
    }
    h = (h ^ (h >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    h = (h ^ (h >> 32)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    Hash(h ^ (h >> 29))
}

impl Hash {
    /// Tag of a way that holds such a connection, never 0.
    #[inline(always)]
    pub const fn tag(self) -> u16 {
        (self.0 >> 48) as u16 | 1
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

/// Finds an entry of `bucket` that `matches`.
#[inline(always)]
fn scan<A, S: Store<A>>(
    store: &S,
    index: u32,
    bucket: *mut Bucket,
    tag: u16,
    matches: impl Fn(&Connection<A>) -> bool,
) -> Option<(u32, *mut Connection<A>)> {
    for word in 0..WAYS / 4 {
        // SAFETY: a bucket of the store; volatile, as other CPUs write.
        let mut tags = unsafe { (&raw const (*bucket).tags).cast::<u64>().add(word as usize).read_volatile() };
        let mut way = word * 4;
        // The rest of a word is free ways: most buckets are done after one or two words.
        while tags != 0 && way < word * 4 + 4 {
            if tags as u16 == tag {
                let at = entry(index, way);
                if let Some(connection) = store.connection(at) {
                    // SAFETY: an entry of the store. Other CPUs may write to it; every value of its plain fields is
                    // valid.
                    if matches(unsafe { &*connection }) {
                        return Some((at, connection));
                    }
                }
            }
            tags >>= 16;
            way += 1;
        }
    }
    None
}

/// Finds the connection with this hash that `matches`: its index and itself.
#[inline(always)]
pub fn find<A, S: Store<A>>(
    store: &S,
    hash: Hash,
    matches: impl Fn(&Connection<A>) -> bool,
) -> Option<(u32, *mut Connection<A>)> {
    let index = hash.first(store.buckets());
    let bucket = store.bucket(index)?;
    if let Some(found) = scan(store, index, bucket, hash.tag(), &matches) {
        return Some(found);
    }
    // SAFETY: a bucket of the store.
    if unsafe { (&raw const (*bucket).overflow).read_volatile() } == 0 {
        return None;
    }
    let index = hash.second(store.buckets());
    scan(store, index, store.bucket(index)?, hash.tag(), &matches)
}

/// Why a connection was not put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertError {
    /// Both buckets are full.
    Full,
    /// Another CPU holds a bucket for long.
    Busy,
    /// Such a connection is there already, at this index.
    Exists(u32),
}

/// Puts a connection in: finds it a way and has `fill` write the entry before anybody can find it.
///
/// `due` is when it may expire at the earliest (jiffies): the bucket is not swept later than that.
#[inline(always)]
pub fn insert<A, S: Store<A>>(
    store: &S,
    hash: Hash,
    due: u64,
    matches: impl Fn(&Connection<A>) -> bool,
    fill: impl FnOnce(*mut Connection<A>),
) -> Result<(u32, *mut Connection<A>), InsertError> {
    let first = hash.first(store.buckets());
    let second = hash.second(store.buckets());
    let (Some(a), Some(b)) = (store.bucket(first), store.bucket(second)) else { return Err(InsertError::Full) };
    // The first bucket's lock serialises everybody who would insert the same connection.
    if !store.lock(a) {
        return Err(InsertError::Busy);
    }
    let result = insert_locked(store, hash, due, (first, a), (second, b), matches, fill);
    store.unlock(a);
    result
}

#[inline(always)]
fn insert_locked<A, S: Store<A>>(
    store: &S,
    hash: Hash,
    due: u64,
    first: (u32, *mut Bucket),
    second: (u32, *mut Bucket),
    matches: impl Fn(&Connection<A>) -> bool,
    fill: impl FnOnce(*mut Connection<A>),
) -> Result<(u32, *mut Connection<A>), InsertError> {
    // SAFETY: buckets of the store; the fields read are plain integers.
    let (used, overflow, other_used) = unsafe { ((*first.1).used, (*first.1).overflow, (*second.1).used) };
    if let Some((at, _)) = scan(store, first.0, first.1, hash.tag(), &matches) {
        return Err(InsertError::Exists(at));
    }
    if overflow != 0
        && let Some((at, _)) = scan(store, second.0, second.1, hash.tag(), &matches)
    {
        return Err(InsertError::Exists(at));
    }
    let spill = used >= RESERVE && other_used < used && first.0 != second.0;
    if !spill {
        return place(store, hash, due, first, fill);
    }
    if !store.lock(second.1) {
        return Err(InsertError::Busy);
    }
    let result = place(store, hash, due, second, fill);
    if result.is_ok() {
        // SAFETY: a bucket of the store.
        store.add(unsafe { &raw mut (*first.1).overflow }, 1);
    }
    store.unlock(second.1);
    result
}

/// Takes a free way of a locked bucket.
#[inline(always)]
fn place<A, S: Store<A>>(
    store: &S,
    hash: Hash,
    due: u64,
    (index, bucket): (u32, *mut Bucket),
    fill: impl FnOnce(*mut Connection<A>),
) -> Result<(u32, *mut Connection<A>), InsertError> {
    let mut free = WAYS;
    for way in 0..WAYS {
        // SAFETY: a bucket of the store.
        if unsafe { tag_at(bucket, way) } == 0 {
            free = way;
            break;
        }
    }
    if free >= WAYS {
        return Err(InsertError::Full);
    }
    let at = entry(index, free);
    let connection = store.connection(at).ok_or(InsertError::Full)?;
    fill(connection);
    // SAFETY: a bucket of the store, locked.
    unsafe { (*bucket).used = (*bucket).used.wrapping_add(1) };
    store.barrier(bucket);
    set_tag(bucket, free, hash.tag());
    // After the tag: a sweep that has passed by before it sees the bucket's time lowered.
    store.sooner(bucket, due);
    Ok((at, connection))
}

/// Takes entry `at` out if it still is what `dead` says to remove; `hash` is that of its client's side.
/// Returns whether it was taken out by this call.
#[inline(always)]
pub fn remove<A, S: Store<A>>(store: &S, at: u32, hash: Hash, dead: impl Fn(&Connection<A>) -> bool) -> bool {
    let (index, way) = (at / WAYS, at % WAYS);
    let (Some(bucket), Some(connection)) = (store.bucket(index), store.connection(at)) else { return false };
    if !store.lock(bucket) {
        return false;
    }
    // SAFETY: a bucket and an entry of the store.
    let gone = unsafe { tag_at(bucket, way) == hash.tag() && dead(&*connection) };
    if gone {
        set_tag(bucket, way, 0);
        // SAFETY: a bucket of the store, locked.
        unsafe { (*bucket).used = (*bucket).used.wrapping_sub(1) };
    }
    store.unlock(bucket);
    let first = hash.first(store.buckets());
    if gone
        && first != index
        && let Some(first) = store.bucket(first)
    {
        // SAFETY: a bucket of the store.
        store.add(unsafe { &raw mut (*first).overflow }, u32::MAX);
    }
    gone
}

#[cfg(test)]
mod tests {
    use std::cell::UnsafeCell;
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    struct Memory {
        buckets: UnsafeCell<Vec<Bucket>>,
        connections: UnsafeCell<Vec<Connection<u32>>>,
    }

    impl Memory {
        fn new(buckets: usize) -> Self {
            Memory {
                buckets: UnsafeCell::new(vec![Bucket::default(); buckets]),
                connections: UnsafeCell::new(vec![Connection::default(); buckets * WAYS as usize]),
            }
        }
    }

    impl Store<u32> for Memory {
        fn buckets(&self) -> u32 {
            // SAFETY: tests are single-threaded and keep no references.
            unsafe { (&*self.buckets.get()).len() as u32 }
        }
        fn bucket(&self, index: u32) -> Option<*mut Bucket> {
            // SAFETY: as above.
            unsafe { (&mut *self.buckets.get()).get_mut(index as usize).map(|b| b as *mut _) }
        }
        fn connection(&self, index: u32) -> Option<*mut Connection<u32>> {
            // SAFETY: as above.
            unsafe { (&mut *self.connections.get()).get_mut(index as usize).map(|c| c as *mut _) }
        }
        fn lock(&self, bucket: *mut Bucket) -> bool {
            // SAFETY: a bucket of ours.
            unsafe {
                let free = (*bucket).lock == 0;
                (*bucket).lock = 1;
                free
            }
        }
        fn unlock(&self, bucket: *mut Bucket) {
            // SAFETY: a bucket of ours.
            unsafe { (*bucket).lock = 0 }
        }
        fn add(&self, counter: *mut u32, amount: u32) {
            // SAFETY: a counter of ours.
            unsafe { *counter = (*counter).wrapping_add(amount) }
        }
        fn sooner(&self, bucket: *mut Bucket, due: u64) {
            // SAFETY: a bucket of ours.
            unsafe { (*bucket).due = (*bucket).due.min(due) }
        }
        fn barrier(&self, _: *mut Bucket) {}
    }

    fn put(store: &Memory, client: u32, port: u16) -> Result<u32, InsertError> {
        insert(
            store,
            hash(client, port, 6, 99),
            1,
            |c| c.client == client && c.client_port == port,
            |c| {
                // SAFETY: an entry of ours.
                unsafe { *c = Connection { client, client_port: port, ..Default::default() } }
            },
        )
        .map(|x| x.0)
    }

    fn get(store: &Memory, client: u32, port: u16) -> Option<u32> {
        find(store, hash(client, port, 6, 99), |c| c.client == client && c.client_port == port).map(|x| x.0)
    }

    #[test]
    fn three_quarters_fit_without_a_refusal() {
        let store = Memory::new(4096);
        for n in 0..4096 * WAYS * 3 / 4 {
            put(&store, n.wrapping_mul(0x0100_0193), n as u16).unwrap();
        }
    }

    proptest! {
        #[test]
        fn it_is_a_map(actions in prop::collection::vec((0u32..40, 0u16..3, any::<bool>()), 1..400)) {
            let store = Memory::new(3);
            let mut model = HashMap::new();
            for (client, port, adding) in actions {
                let key = (client, port);
                if adding {
                    match put(&store, client, port) {
                        Ok(at) => prop_assert!(model.insert(key, at).is_none()),
                        Err(InsertError::Exists(at)) => prop_assert_eq!(model.get(&key), Some(&at)),
                        Err(InsertError::Full) => prop_assert!(model.len() > 16 && !model.contains_key(&key)),
                        Err(InsertError::Busy) => prop_assert!(false, "nobody else is there"),
                    }
                } else if let Some(at) = model.remove(&key) {
                    prop_assert!(remove(&store, at, hash(client, port, 6, 99), |_| true));
                }
                for ((client, port), at) in &model {
                    prop_assert_eq!(get(&store, *client, *port), Some(*at));
                }
                prop_assert_eq!(get(&store, client, port), model.get(&key).copied());
            }
            for ((client, port), at) in model {
                prop_assert!(remove(&store, at, hash(client, port, 6, 99), |_| true));
            }
            for i in 0..3 {
                // SAFETY: a bucket of ours.
                let b = unsafe { *store.bucket(i).unwrap() };
                prop_assert_eq!((b.used, b.overflow, b.lock, b.tags), (0, 0, 0, [0; 4]));
            }
        }
    }
}
