//! Hash tables.

use std::borrow::Borrow;
use std::collections::{HashMap as Table, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::marker::PhantomData;
use std::mem::MaybeUninit;

use super::key::bytes;
use crate::bindings::{BPF_EXIST, BPF_NOEXIST};
use crate::kernel::{Place, Storage, point};

const ENOENT: i32 = 2;
const E2BIG: i32 = 7;
const EEXIST: i32 = 17;

/// A hash that is the same in every run, so that what a fuzzer finds happens again.
#[derive(Default)]
pub struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = (self.0.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
    }
}

/// The elements of a hash table.
pub struct Elements<V> {
    values: Table<Box<[u8]>, Box<MaybeUninit<V>>, BuildHasherDefault<Mixer>>,
    /// Keys in the order in which they came; of those that were removed some may still stand here.
    order: VecDeque<Box<[u8]>>,
    /// Values of removed keys, which a program may still hold.
    removed: Vec<Box<MaybeUninit<V>>>,
    most: usize,
    /// Whether the oldest gives way in a full table.
    is_lru: bool,
}

impl<V: 'static> Storage for Elements<V> {
    fn clear(&mut self) {
        self.values.clear();
        self.order.clear();
        self.removed.clear();
    }
}

impl<V> Elements<V> {
    fn new(most: usize, is_lru: bool) -> Self {
        Elements { values: Table::default(), order: VecDeque::new(), removed: Vec::new(), most, is_lru }
    }

    fn find(&mut self, key: &[u8]) -> Option<*mut V> {
        self.values.get_mut(key).map(|value| value.as_mut_ptr())
    }

    fn insert(&mut self, key: &[u8], value: &V, flags: u64) -> Result<(), i32> {
        let found = self.find(key);
        if found.is_some() && flags & u64::from(BPF_NOEXIST) != 0 {
            return Err(-EEXIST);
        }
        if found.is_none() && flags & u64::from(BPF_EXIST) != 0 {
            return Err(-ENOENT);
        }
        let place = match found {
            Some(place) => place,
            None => self.make(key)?,
        };
        // SAFETY: the value's bytes, to a place of its own.
        unsafe { place.copy_from_nonoverlapping(value, 1) };
        Ok(())
    }

    /// A place for a key that is not there.
    fn make(&mut self, key: &[u8]) -> Result<*mut V, i32> {
        let mut value = None;
        if self.values.len() >= self.most {
            if !self.is_lru {
                return Err(-E2BIG);
            }
            // Whoever holds the oldest value sees this one there, as in the kernel.
            while value.is_none() {
                let oldest = self.order.pop_front().ok_or(-E2BIG)?;
                value = self.values.remove(&oldest);
            }
        }
        let value = value.unwrap_or_else(|| Box::new(MaybeUninit::zeroed()));
        if self.is_lru {
            self.order.push_back(key.into());
        }
        let place = self.values.entry(key.into()).or_insert(value);
        Ok(place.as_mut_ptr())
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), i32> {
        self.removed.push(self.values.remove(key).ok_or(-ENOENT)?);
        Ok(())
    }
}

macro_rules! hash_maps {
    ($($(#[$doc:meta])* $name:ident: $is_lru:literal),+) => {
        $(
            $(#[$doc])*
            pub struct $name<K, V: 'static, const N: usize, const FLAGS: usize = 0> {
                place: Place<Elements<V>>,
                key: PhantomData<fn() -> K>,
            }

            impl<K, V, const N: usize, const FLAGS: usize> $name<K, V, N, FLAGS> {
                /// The table, empty in each kernel.
                pub const fn new() -> Self {
                    $name { place: Place::new(|| Elements::new(N, $is_lru)), key: PhantomData }
                }

                #[allow(clippy::mut_from_ref, reason = "maps are statics, which programs change")]
                fn elements(&self) -> &mut Elements<V> {
                    // SAFETY: the map of the kernel that this thread alone is in; the borrow lasts for a call.
                    unsafe { &mut *self.place.get() }
                }

                /// Gives the table another number of elements at most, and empties it.
                pub fn resize(&self, most: u32) {
                    *self.elements() = Elements::new(most as usize, $is_lru);
                }

                /// How many elements there are.
                pub fn count(&self) -> usize {
                    self.elements().values.len()
                }

                /// A pointer to the value of a key.
                #[inline(always)]
                pub fn get_ptr_mut(&self, key: impl Borrow<K>) -> Option<*mut V> {
                    point();
                    self.elements().find(bytes(key.borrow()))
                }

                /// Enters a value.
                ///
                /// # Errors
                /// As `bpf_map_update_elem`: the flags forbid it, or the table is full.
                pub fn insert(&self, key: impl Borrow<K>, value: impl Borrow<V>, flags: u64) -> Result<(), i32> {
                    self.elements().insert(bytes(key.borrow()), value.borrow(), flags)
                }

                /// Removes a key.
                ///
                /// # Errors
                /// There is no such key.
                pub fn remove(&self, key: impl Borrow<K>) -> Result<(), i32> {
                    self.elements().remove(bytes(key.borrow()))
                }

                /// Every value, in no particular order.
                pub fn values(&self) -> impl Iterator<Item = *mut V> {
                    self.elements().values.values_mut().map(|value| value.as_mut_ptr())
                }
            }

            impl<K, V, const N: usize, const FLAGS: usize> Default for $name<K, V, N, FLAGS> {
                fn default() -> Self {
                    Self::new()
                }
            }
        )+
    };
}

hash_maps! {
    /// A hash table, which is full with `N` keys.
    HashMap: false,
    /// A hash table in which the key that came first gives way to the one that is too many.
    LruHashMap: true
}
