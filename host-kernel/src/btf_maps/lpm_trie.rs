//! Tries of prefixes.

use std::borrow::Borrow;
use std::marker::PhantomData;

use super::key::bytes;
use crate::kernel::{Place, Storage};
use crate::network::is_prefix;

/// A prefix: its length in bits, and the bytes that it is a prefix of.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed)]
pub struct Key<K> {
    /// Bits.
    pub prefix_len: u32,
    /// Bytes, the most significant bit first.
    pub data: K,
}

impl<K> Key<K> {
    /// The first `prefix_len` bits of `data`.
    pub const fn new(prefix_len: u32, data: K) -> Self {
        Key { prefix_len, data }
    }
}

/// A prefix: its length in bits, its bytes, and its value.
type Entry<V> = (u32, Box<[u8]>, Box<V>);

/// The prefixes of a trie.
pub struct Prefixes<V>(Vec<Entry<V>>);

impl<V: 'static> Storage for Prefixes<V> {
    fn clear(&mut self) {
        self.0.clear();
    }
}

/// A trie. It is a list: what is tested has few prefixes.
pub struct LpmTrie<K, V: 'static, const N: usize, const FLAGS: usize = 1> {
    place: Place<Prefixes<V>>,
    key: PhantomData<fn() -> K>,
}

impl<K: Copy, V: Copy, const N: usize, const FLAGS: usize> LpmTrie<K, V, N, FLAGS> {
    /// Enters a prefix.
    pub fn insert(&self, key: &Key<K>, value: impl Borrow<V>) {
        let (length, data) = (key.prefix_len, key.data);
        let list = self.list();
        list.retain(|(other, bytes_of, _)| *other != length || !is_prefix(bytes_of, length, bytes(&data)));
        list.push((length, bytes(&data).into(), Box::new(*value.borrow())));
    }
}

impl<K, V, const N: usize, const FLAGS: usize> LpmTrie<K, V, N, FLAGS> {
    /// The trie, empty in each kernel.
    pub const fn new() -> Self {
        LpmTrie { place: Place::new(|| Prefixes(Vec::new())), key: PhantomData }
    }

    #[allow(clippy::mut_from_ref, reason = "maps are statics, which programs change")]
    fn list(&self) -> &mut Vec<Entry<V>> {
        // SAFETY: the map of the kernel that this thread alone is in; the borrow lasts for a call.
        unsafe { &mut (*self.place.get()).0 }
    }

    /// The value of the longest prefix of a key that is no longer than the key.
    pub fn get(&self, key: &Key<K>) -> Option<&V> {
        let (limit, all) = (key.prefix_len, bytes(key));
        let data = &all[size_of::<u32>()..];
        let fitting =
            self.list().iter().filter(|(length, prefix, _)| *length <= limit && is_prefix(prefix, *length, data));
        fitting.max_by_key(|(length, ..)| *length).map(|(_, _, value)| &**value)
    }
}

impl<K, V, const N: usize, const FLAGS: usize> Default for LpmTrie<K, V, N, FLAGS> {
    fn default() -> Self {
        Self::new()
    }
}
