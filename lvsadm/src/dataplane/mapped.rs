//! The data plane's arrays, mapped into this process.

use std::num::NonZeroUsize;
use std::path::Path;
use std::ptr::NonNull;

use anyhow::{Context, Result, bail};
use aya::maps::MapData;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// A BPF array, element by element. Packets read and write it at the same time: elements are copied in and out, and
/// what decides is stored last, as a whole word.
#[derive(Debug)]
pub struct Mapped<T> {
    start: NonNull<T>,
    count: u32,
    bytes: NonZeroUsize,
}

impl<T: Copy> Mapped<T> {
    /// Maps the pinned array at `path`.
    pub fn open(path: &Path) -> Result<Self> {
        let context = || format!("cannot open map {}", path.display());
        let map = MapData::from_pin(path).with_context(context)?;
        let info = map.info().with_context(context)?;
        if info.value_size() as usize != size_of::<T>() {
            bail!("map {} is of another version of lvsadm: run `lvsadm unload` with that", path.display());
        }
        let count = info.max_entries();
        let Some(bytes) = NonZeroUsize::new(count as usize * size_of::<T>()) else {
            bail!("map {} is empty", path.display())
        };
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping of the whole array; its size was asked of the kernel.
        let start =
            unsafe { mmap(None, bytes, protection, MapFlags::MAP_SHARED, map.fd(), 0) }.with_context(context)?;
        Ok(Mapped { start: start.cast(), count, bytes })
    }

    /// How many elements there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Element `index`, as it is now.
    ///
    /// # Panics
    /// If there is no such element: indices come from the data plane's own maps or are checked against [`Self::count`].
    pub fn get(&self, index: u32) -> T {
        // SAFETY: `at` checks the index; any bytes are a valid element.
        unsafe { self.at(index).read_volatile() }
    }

    /// Stores element `index`.
    pub fn set(&self, index: u32, value: T) {
        // SAFETY: as above.
        unsafe { self.at(index).write_volatile(value) }
    }

    /// A pointer to element `index`, for its fields.
    pub fn at(&self, index: u32) -> *mut T {
        assert!(index < self.count, "element {index} of {}", self.count);
        // SAFETY: within the mapping.
        unsafe { self.start.as_ptr().add(index as usize) }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping made by `open`; no reference into it outlives it.
        let _ = unsafe { munmap(self.start.cast(), self.bytes.get()) };
    }
}
