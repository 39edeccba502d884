//! The data plane's arrays, mapped into this process.
//!
//! The kernel enters every page of a mapping at once, so mapping a table of a million connections takes ten
//! milliseconds, thrice what a command needs altogether. Hence an array's whole range of addresses is only reserved, and
//! a piece of it is mapped when it is first looked at: what a command costs depends on what it touches.

use super::error::{Context, Result, unfit};

use std::cell::Cell;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::ptr::NonNull;

use aya::maps::MapData;
use lvs_common::abi::{DestId, ServiceId};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// Least bytes of a piece: about as long to enter in the page tables as the system call takes.
const PIECE: usize = 128 << 10;
/// Most pieces of an array: the kernel allows a process some 65,000 mappings.
const PIECES: usize = 2048;

/// How addresses are reserved without memory for them.
const RESERVED: MapFlags = MapFlags::MAP_PRIVATE.union(MapFlags::MAP_NORESERVE);

/// What the elements of an array are found by.
pub trait Index: Copy {
    /// The element's place in the array.
    fn place(self) -> u32;

    /// The one of a place.
    fn of(place: u32) -> Self;
}

impl Index for u32 {
    fn place(self) -> u32 {
        self
    }

    fn of(place: u32) -> Self {
        place
    }
}

impl Index for DestId {
    fn place(self) -> u32 {
        self.get()
    }

    fn of(place: u32) -> Self {
        DestId::new(place)
    }
}

impl Index for ServiceId {
    fn place(self) -> u32 {
        self.get()
    }

    fn of(place: u32) -> Self {
        ServiceId::new(place)
    }
}

/// A BPF array, element by element. Packets read and write it at the same time: elements are copied in and out, and
/// what decides is stored last, as a whole word.
#[derive(Debug)]
pub struct Mapped<T, I = u32> {
    map: MapData,
    start: NonNull<T>,
    index: PhantomData<I>,
    count: u32,
    bytes: NonZeroUsize,
    /// Bytes of a piece.
    piece: usize,
    /// Which pieces are mapped.
    present: Box<[Cell<bool>]>,
}

impl<T: Copy, I: Index> Mapped<T, I> {
    /// Opens the pinned array at `path`.
    pub fn open(path: &Path) -> Result<Self> {
        let context = || format!("cannot open map {}", path.display());
        Self::of(MapData::from_pin(path).with_context(context)?).with_context(context)
    }

    /// Takes an array whose flags allow it to be mapped. An element stands at a multiple of eight bytes, as `T` does.
    pub fn of(map: MapData) -> Result<Self> {
        let info = map.info()?;
        if info.value_size().next_multiple_of(8) as usize != size_of::<T>() {
            return unfit("it is of another version of lvsadm: run `lvsadm unload` with that");
        }
        let count = info.max_entries();
        let Some(bytes) = NonZeroUsize::new(count as usize * size_of::<T>()) else { return unfit("it is empty") };
        let piece = bytes.get().div_ceil(PIECES).next_power_of_two().max(PIECE);
        // SAFETY: new addresses, which nothing may be read from or written to yet.
        let start = unsafe { mmap_anonymous(None, bytes, ProtFlags::PROT_NONE, RESERVED)? };
        let present = vec![Cell::new(false); bytes.get().div_ceil(piece)].into();
        Ok(Mapped { map, start: start.cast(), index: PhantomData, count, bytes, piece, present })
    }

    /// The array's descriptor.
    pub fn descriptor(&self) -> u32 {
        self.map.fd().as_fd().as_raw_fd() as u32
    }

    /// How many elements there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Element `index`, as it is now.
    ///
    /// # Panics
    /// If there is no such element: indices come from the data plane's own maps or are checked against [`Self::count`].
    pub fn get(&self, index: I) -> T {
        // SAFETY: `at` checks the index; any bytes are a valid element.
        unsafe { self.at(index).read_volatile() }
    }

    /// Stores element `index`.
    pub fn set(&self, index: I, value: T) {
        // SAFETY: as above.
        unsafe { self.at(index).write_volatile(value) }
    }

    /// A pointer to element `index`, for its fields. It is good as long as the array is open.
    #[inline]
    pub fn at(&self, index: I) -> *mut T {
        let index = index.place();
        assert!(index < self.count, "element {index} of {}", self.count);
        let first = index as usize * size_of::<T>();
        for piece in first / self.piece..=(first + size_of::<T>() - 1) / self.piece {
            if !self.present[piece].get() {
                self.map(piece);
            }
        }
        // SAFETY: within the reserved addresses, and mapped now.
        unsafe { self.start.as_ptr().add(index as usize) }
    }

    /// Maps a piece, at the addresses reserved for it.
    #[cold]
    fn map(&self, piece: usize) {
        let offset = piece * self.piece;
        let length = self.piece.min(self.bytes.get() - offset);
        let address = self.start.addr().saturating_add(offset);
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_FIXED;
        let mapped = NonZeroUsize::new(length).map(|length| {
            // SAFETY: the addresses are this array's own, and nothing refers to them before they are mapped.
            unsafe { mmap(Some(address), length, protection, flags, self.map.fd(), offset as libc::off_t) }
        });
        // The array is there and the addresses are: what can fail is memory for the page tables, as any allocation can.
        assert!(matches!(mapped, Some(Ok(_))), "cannot map a part of the data plane's tables: {mapped:?}");
        self.present[piece].set(true);
    }
}

/// Reads a field of an element of a [`Mapped`] array, and nothing of the rest of it.
macro_rules! field {
    ($array:expr, $index:expr, $field:ident) => {{
        let element = $array.at($index);
        // SAFETY: a field of an element that `at` has checked; any bytes are a value of the ABI's types.
        unsafe { (&raw const (*element).$field).read_volatile() }
    }};
}

/// Stores a field of an element of a [`Mapped`] array.
macro_rules! put {
    ($array:expr, $index:expr, $field:ident, $value:expr) => {{
        let (element, value) = ($array.at($index), $value);
        // SAFETY: a field of an element that `at` has checked.
        unsafe { (&raw mut (*element).$field).write_volatile(value) }
    }};
}

pub(super) use {field, put};

/// A word of a field of an array's element that programs change by atomics, as an atomic.
macro_rules! atomic {
    ($array:expr, $index:expr, $field:ident) => {{
        let element = $array.at($index);
        // SAFETY: a word of an element that `at` has checked, aligned by its type; everybody changes it by atomics.
        unsafe { std::sync::atomic::AtomicU32::from_ptr(&raw mut (*element).$field) }
    }};
}

pub(super) use atomic;

impl<T, I> Drop for Mapped<T, I> {
    fn drop(&mut self) {
        // SAFETY: the addresses reserved by `open`; no reference into them outlives it.
        let _ = unsafe { munmap(self.start.cast(), self.bytes.get()) };
    }
}
