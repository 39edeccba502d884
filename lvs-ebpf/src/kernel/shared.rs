//! Memory of maps that other CPUs, or `lvsadm`, read and write at the same time.

use core::marker::PhantomData;

use aya_ebpf::btf_maps::Array;

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

#[allow(dead_code, reason = "its users follow")]
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
}

#[allow(dead_code, reason = "its users follow")]
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
#[allow(unused_macros, reason = "its users follow")]
macro_rules! field {
    ($whole:ident . $($field:ident).+) => {{
        let whole = $crate::kernel::shared::Shared::as_ptr($whole);
        // SAFETY: a field of a structure in a map's element lies in the same element.
        unsafe { $crate::kernel::shared::Shared::new(&raw mut (*whole).$($field).+) }
    }};
}

#[allow(unused_imports, reason = "its users follow")]
pub(crate) use field;

/// Element `index` of an array that other CPUs use as well.
#[allow(dead_code, reason = "its users follow")]
#[inline(always)]
pub fn element<T, const N: usize, const FLAGS: usize>(map: &Array<T, N, FLAGS>, index: u32) -> Option<Shared<T>> {
    // SAFETY: an element of the map, aligned by its type.
    map.get_ptr_mut(index).map(|place| unsafe { Shared::new(place) })
}
