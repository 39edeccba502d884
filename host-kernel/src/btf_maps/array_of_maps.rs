//! Arrays of arrays.

use std::marker::PhantomData;

use super::array::Array;
use crate::kernel::{Place, Storage};

/// The inner arrays, by number.
#[derive(Default)]
pub struct Inner<T>(Vec<Option<Box<[T]>>>);

impl<T: 'static> Storage for Inner<T> {
    fn clear(&mut self) {
        self.0.clear();
    }
}

/// An array of maps. Of those the data plane has arrays only.
pub struct ArrayOfMaps<V: Map, const N: usize, const FLAGS: usize = 0> {
    place: Place<Inner<V::Value>>,
    of: PhantomData<fn() -> V>,
}

/// A kind of inner map.
pub trait Map {
    /// What an element is.
    type Value: 'static;
}

impl<T: 'static, const N: usize, const FLAGS: usize> Map for Array<T, N, FLAGS> {
    type Value = T;
}

impl<V: Map, const N: usize, const FLAGS: usize> ArrayOfMaps<V, N, FLAGS> {
    /// The map, empty in each kernel.
    pub const fn new() -> Self {
        ArrayOfMaps { place: Place::new(|| Inner(Vec::new())), of: PhantomData }
    }

    /// Puts an array into a place.
    pub fn set(&self, outer: u32, elements: Box<[V::Value]>) {
        // SAFETY: no program runs.
        let inner = unsafe { &mut (*self.place.get()).0 };
        if inner.len() <= outer as usize {
            inner.resize_with(outer as usize + 1, || None);
        }
        inner[outer as usize] = Some(elements);
    }

    /// An element of an inner array.
    #[inline(always)]
    pub fn get_value(&self, outer: u32, index: &u32) -> Option<&V::Value> {
        // SAFETY: the map of the kernel that this thread alone is in.
        let inner = unsafe { &(*self.place.get()).0 };
        inner.get(outer as usize)?.as_ref()?.get(*index as usize)
    }
}

impl<V: Map, const N: usize, const FLAGS: usize> Default for ArrayOfMaps<V, N, FLAGS> {
    fn default() -> Self {
        Self::new()
    }
}
