//! Arrays of another build's layout, mapped into this process.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;
use std::path::Path;
use std::ptr::NonNull;

use aya::maps::MapData;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::super::error::{Context, Result, unfit};
use super::layouts::Layouts;
use super::plan::Plan;

/// An array that can be mapped, of elements of any size.
#[derive(Debug)]
pub struct Raw {
    start: NonNull<u8>,
    bytes: NonZeroUsize,
    /// Bytes from one element to the next.
    stride: usize,
    count: u32,
}

impl Raw {
    /// Opens the pinned array at `path`, of elements of `size` bytes.
    pub fn open(path: &Path, size: usize) -> Result<Self> {
        let context = || format!("cannot open map {}", path.display());
        Self::of(MapData::from_pin(path).with_context(context)?, size).with_context(context)
    }

    fn of(map: MapData, size: usize) -> Result<Self> {
        let info = map.info()?;
        if info.value_size() as usize != size {
            return unfit(format!("its elements have {} bytes, not {size}", info.value_size()));
        }
        let (stride, count) = (size.next_multiple_of(8), info.max_entries());
        let Some(bytes) = NonZeroUsize::new(stride * count as usize) else { return unfit("it is empty") };
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: new addresses, which nothing refers to yet.
        let start = unsafe { mmap(None, bytes, protection, MapFlags::MAP_SHARED, map.fd(), 0) }?;
        Ok(Raw { start: start.cast(), bytes, stride, count })
    }

    /// How many elements there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// A pointer to an element, good as long as the array is open.
    ///
    /// # Panics
    /// If there is no such element.
    pub fn at(&self, index: u32) -> *mut u8 {
        assert!(index < self.count, "element {index} of {}", self.count);
        // SAFETY: within the mapping.
        unsafe { self.start.as_ptr().add(index as usize * self.stride) }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // SAFETY: the mapping of `of`; no reference into it outlives it.
        let _ = unsafe { munmap(self.start.cast(), self.bytes.get()) };
    }
}

/// An array of the generation before, whose elements are read and written as this build's `T`.
#[derive(Debug)]
pub struct Foreign<T> {
    raw: Raw,
    to_own: Plan,
    from_own: Plan,
    element: PhantomData<T>,
}

impl<T: Copy + Default> Foreign<T> {
    /// Opens a map of the generation before in its directory.
    pub fn open(directory: &Path, map: &str, layouts: &Layouts) -> Result<Self> {
        let Some(name) = layouts.own.maps.get(map).and_then(|held| held.value.as_ref()) else {
            return unfit(format!("map {map} has no described elements"));
        };
        let to_own = Plan::new(&layouts.from, &layouts.own, name)?;
        let from_own = Plan::new(&layouts.own, &layouts.from, name)?;
        if to_own.size != size_of::<T>() {
            return unfit(format!("map {map} has other elements"));
        }
        let raw = Raw::open(&directory.join(map), to_own.from_size)?;
        Ok(Foreign { raw, to_own, from_own, element: PhantomData })
    }

    /// How many elements there are.
    pub fn count(&self) -> u32 {
        self.raw.count()
    }

    /// An element, as it is now.
    pub fn get(&self, index: u32) -> T {
        let mut element = MaybeUninit::new(T::default());
        // SAFETY: elements of both layouts; any bytes are a value of the ABI's types.
        unsafe {
            self.to_own.apply(self.raw.at(index), element.as_mut_ptr().cast());
            element.assume_init()
        }
    }

    /// Stores an element: those of its fields that the generation before knows.
    pub fn set(&self, index: u32, value: &T) {
        // SAFETY: elements of both layouts.
        unsafe { self.from_own.apply((&raw const *value).cast(), self.raw.at(index)) }
    }
}
