//! The table in plain memory.

use std::cell::UnsafeCell;
use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::verifier::Plain;

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

impl Each for Memory {
    fn each<F: FnMut(u32) -> bool>(&self, times: u32, turn: &mut F) {
        Plain.each(times, turn);
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
    fn lower_due(&self, bucket: *mut Bucket, due: u64) {
        // SAFETY: a bucket of ours.
        unsafe { (*bucket).due = (*bucket).due.min(due) }
    }
    fn barrier(&self, _: *mut Bucket) {}
}

/// Client, its port, and virtual address: the hash does not know the last.
type Key = (u32, u16, u32);

fn is(c: &Connection<u32>, key: Key) -> bool {
    (c.client, c.client_port.get(), c.virt) == key
}

fn put(store: &Memory, key: Key) -> Result<u32, InsertError> {
    let (client, client_port, virt) = (key.0, Be16::new(key.1), key.2);
    // SAFETY: an entry of ours.
    let fill = |c: *mut Connection<u32>| unsafe { *c = Connection { client, client_port, virt, ..Default::default() } };
    insert(store, hash(client, client_port, 6, 99), 1, &|c: &Connection<u32>| is(c, key), fill).map(|x| x.0)
}

fn get(store: &Memory, key: Key) -> Option<u32> {
    find(store, hash(key.0, Be16::new(key.1), 6, 99), &|c: &Connection<u32>| is(c, key)).map(|x| x.0)
}

fn take(store: &Memory, key: Key, at: u32) -> bool {
    remove(store, at, hash(key.0, Be16::new(key.1), 6, 99), |_| true)
}

#[test]
fn tags_are_compared_all_at_once() {
    for bits in 1u64..1 << 16 {
        assert_eq!(lowest(bits), bits.trailing_zeros());
    }
    for tag in [0u16, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
        for lanes in 0u64..16 {
            for other in [0u16, 1, 0x7ffe, 0x8000, 0xfffe].into_iter().filter(|other| *other != tag) {
                let lane = |n: u64| u64::from(if lanes >> n & 1 != 0 { tag } else { other }) << (n * 16);
                assert_eq!(equal((0..4).map(lane).sum(), tag), lanes, "{tag:x} among {other:x}");
            }
        }
    }
}

#[test]
fn three_quarters_fit_without_a_refusal() {
    let store = Memory::new(4096);
    for n in 0..4096 * WAYS * 3 / 4 {
        put(&store, (n.wrapping_mul(0x0100_0193), n as u16, 0)).unwrap();
    }
}

#[test]
fn one_port_of_a_client_talks_to_many_services() {
    let store = Memory::new(64);
    let keys: Vec<Key> = (0..PROBES * WAYS).map(|virt| (1, 2, virt)).collect();
    let at: Vec<u32> = keys.iter().map(|key| put(&store, *key).unwrap()).collect();
    assert_eq!(put(&store, (1, 2, u32::MAX)), Err(InsertError::Full));
    for (key, at) in keys.iter().zip(&at) {
        assert_eq!(get(&store, *key), Some(*at));
    }
    for (key, at) in keys.iter().zip(&at) {
        assert!(take(&store, *key, *at));
    }
    // SAFETY: nobody else is there.
    assert!(unsafe { &*store.buckets.get() }.iter().all(|b| b.overflow == 0 && b.used == 0));
}

proptest! {
    #[test]
    fn it_is_a_map(actions in prop::collection::vec((0u32..4, 0u16..3, 0u32..20, any::<bool>()), 1..400)) {
        let store = Memory::new(9);
        let mut model = HashMap::new();
        for (client, port, virt, adding) in actions {
            let key = (client, port, virt);
            if adding {
                match put(&store, key) {
                    Ok(at) => prop_assert!(model.insert(key, at).is_none()),
                    Err(InsertError::Exists(at)) => prop_assert_eq!(model.get(&key), Some(&at)),
                    Err(error) => prop_assert!(false, "{:?}", error),
                }
            } else if let Some(at) = model.remove(&key) {
                prop_assert!(take(&store, key, at));
                prop_assert_eq!(get(&store, key), None);
            }
            for (key, at) in &model {
                prop_assert_eq!(get(&store, *key), Some(*at));
            }
        }
        for (key, at) in model {
            prop_assert!(take(&store, key, at));
        }
        // SAFETY: nobody else is there.
        let empty = unsafe { &*store.buckets.get() }.iter().all(|b| b.overflow == 0 && b.used == 0);
        prop_assert!(empty);
    }
}
