//! Memory of maps that other CPUs, or `lvsadm`, read and write at the same time.

use core::marker::PhantomData;

use aya_ebpf::btf_maps::lpm_trie::{Key, LpmTrie};
use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap};
use lvs_common::abi::IpAddress;

use crate::kernel::atomics;

/// A value in a map, or a field of one. It lives as long as the program.
///
/// Loads and stores are volatile: LLVM makes one access of each word and repeats none, so no word is ever half of two values.
#[derive(Debug)]
pub struct Shared<T>(*mut T, PhantomData<T>);

impl<T> Clone for Shared<T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

impl<T> Shared<T> {
    /// # Safety
    /// `place` points to an aligned `T` within an element of a map.
    #[inline(always)]
    pub unsafe fn new(place: *mut T) -> Self {
        Shared(place, PhantomData)
    }

    /// The pointer, for global functions and the code that both sides share.
    #[inline(always)]
    pub fn as_ptr(self) -> *mut T {
        self.0
    }

    /// Looks at the value in place: for a structure that nobody changes while it is looked at, or of whose words an old value is
    /// as good as a new one.
    #[inline(always)]
    pub fn get<'a>(self) -> &'a T {
        // SAFETY: `new` got a pointer that stays valid, and any bytes of a map's element are a value of it.
        unsafe { &*self.0 }
    }
}

impl<T, const N: usize> Shared<[T; N]> {
    /// Element `index` of an array; beyond the last comes the first again.
    #[inline(always)]
    pub fn at(self, index: usize) -> Shared<T> {
        const { assert!(N.is_power_of_two()) };
        // SAFETY: an element of the array, within the mask.
        unsafe { Shared::new(self.0.cast::<T>().add(index & (N - 1))) }
    }
}

impl<T: Copy> Shared<T> {
    /// Loads the value.
    #[inline(always)]
    pub fn load(self) -> T {
        // SAFETY: `new` got a pointer that stays valid. Another CPU's store is seen as a whole word or not at all.
        unsafe { self.0.read_volatile() }
    }

    /// Stores a value.
    #[inline(always)]
    pub fn store(self, value: T) {
        // SAFETY: as in `load`.
        unsafe { self.0.write_volatile(value) }
    }
}

/// The atomics of [`atomics`] as methods.
macro_rules! atomic {
    ($word:ty, $add:ident, $or:ident, $and:ident, $exchange:ident, $compare_exchange:ident) => {
        #[allow(dead_code, reason = "both widths have all operations")]
        impl Shared<$word> {
            /// Adds, wrapping; the value before.
            #[inline(always)]
            pub fn fetch_add(self, amount: $word) -> $word {
                atomics::$add(self.0, amount)
            }

            /// Sets bits; the value before.
            #[inline(always)]
            pub fn fetch_or(self, bits: $word) -> $word {
                atomics::$or(self.0, bits)
            }

            /// Clears the bits that are not set in `bits`; the value before.
            #[inline(always)]
            pub fn fetch_and(self, bits: $word) -> $word {
                atomics::$and(self.0, bits)
            }

            /// Stores; the value before.
            #[inline(always)]
            pub fn exchange(self, value: $word) -> $word {
                atomics::$exchange(self.0, value)
            }

            /// Stores `new` if the value is `old`; `Err` holds what it is otherwise.
            #[inline(always)]
            pub fn compare_exchange(self, old: $word, new: $word) -> Result<(), $word> {
                atomics::$compare_exchange(self.0, old, new)
            }
        }
    };
}

atomic!(u32, fetch_add32, fetch_or32, fetch_and32, exchange32, compare_exchange32);
atomic!(u64, fetch_add64, fetch_or64, fetch_and64, exchange64, compare_exchange64);

/// A field of a [`Shared`] structure, as a [`Shared`] of its own: `field!(bucket.lock)`, `field!(settings.sysctls.drop_entry)`.
macro_rules! field {
    ($whole:ident . $($field:tt).+) => {{
        let whole = $crate::kernel::shared::Shared::as_ptr($whole);
        // SAFETY: a field of a structure in a map's element lies in the same element.
        unsafe { $crate::kernel::shared::Shared::new(&raw mut (*whole).$($field).+) }
    }};
}

pub(crate) use field;

/// Element `index` of an array that other CPUs use as well.
#[inline(always)]
pub fn element<T, const N: usize, const FLAGS: usize>(map: &Array<T, N, FLAGS>, index: u32) -> Option<Shared<T>> {
    // SAFETY: an element of the map, aligned by its type.
    map.get_ptr_mut(index).map(|place| unsafe { Shared::new(place) })
}

/// A map with keys.
pub trait Keyed<K, V> {
    /// A pointer to the value of `key`.
    fn find(&self, key: &K) -> Option<*mut V>;
}

impl<K, V, const N: usize, const FLAGS: usize> Keyed<K, V> for HashMap<K, V, N, FLAGS> {
    #[inline(always)]
    fn find(&self, key: &K) -> Option<*mut V> {
        self.get_ptr_mut(key)
    }
}

impl<K, V, const N: usize, const FLAGS: usize> Keyed<K, V> for LruHashMap<K, V, N, FLAGS> {
    #[inline(always)]
    fn find(&self, key: &K) -> Option<*mut V> {
        self.get_ptr_mut(key)
    }
}

/// Of a trie it is the value of the longest prefix of `key`.
impl<K, V, const N: usize, const FLAGS: usize> Keyed<Key<K>, V> for LpmTrie<K, V, N, FLAGS> {
    #[inline(always)]
    fn find(&self, key: &Key<K>) -> Option<*mut V> {
        self.get(key).map(|value| core::ptr::from_ref(value).cast_mut())
    }
}

/// The value of `key` in a map. If the map gives its place to another key meanwhile, it is that key's.
#[inline(always)]
pub fn value<K, V>(map: &impl Keyed<K, V>, key: &K) -> Option<Shared<V>> {
    // SAFETY: a value of the map, aligned by its type. Its memory is not given back before the program ends.
    map.find(key).map(|place| unsafe { Shared::new(place) })
}

/// Values of which each family has an array of its own.
pub trait PerFamily {
    /// The value of the family with addresses `A`.
    type Of<A: IpAddress>;
}

/// Element `index` of the array of family `A`.
#[inline(always)]
pub fn element_of<A: IpAddress, V: PerFamily, const N: usize, const FLAGS: usize>(
    four: &Array<V::Of<u32>, N, FLAGS>,
    six: &Array<V::Of<[u32; 4]>, N, FLAGS>,
    index: u32,
) -> Option<Shared<V::Of<A>>> {
    let place = if A::IS_V4 {
        four.get_ptr_mut(index).map(<*mut V::Of<u32>>::cast)
    } else {
        six.get_ptr_mut(index).map(<*mut V::Of<[u32; 4]>>::cast)
    };
    // SAFETY: an element of the map, and a cast to the same type: `A` is `u32` for IPv4, else `[u32; 4]`.
    place.map(|place| unsafe { Shared::new(place) })
}
