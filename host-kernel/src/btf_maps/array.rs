//! Arrays.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use crate::kernel::{Place, Storage, point, with};

/// The elements of an array, zero at first.
pub struct Elements<T> {
    start: NonNull<T>,
    count: u32,
    /// Which elements were asked for since the array was cleared, a bit each.
    touched: Vec<u64>,
}

impl<T> Elements<T> {
    fn new(count: u32) -> Self {
        let layout = layout::<T>(count);
        // SAFETY: an array has elements, and these have bytes.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start.cast()) else { handle_alloc_error(layout) };
        Elements { start, count, touched: vec![0; (count as usize).div_ceil(64)] }
    }

    /// A pointer to an element.
    #[inline(always)]
    fn at(&mut self, index: u32) -> Option<*mut T> {
        if index >= self.count {
            return None;
        }
        self.touched[index as usize / 64] |= 1 << (index % 64);
        // SAFETY: within the array.
        Some(unsafe { self.start.as_ptr().add(index as usize) })
    }
}

/// The layout of an array. The kernel aligns elements to eight bytes at least.
fn layout<T>(count: u32) -> Layout {
    let layout = Layout::array::<T>(count as usize).expect("an array that fits the memory");
    layout.align_to(64).expect("a power of two")
}

impl<T> Drop for Elements<T> {
    fn drop(&mut self) {
        // SAFETY: what `new` allocated.
        unsafe { dealloc(self.start.as_ptr().cast(), layout::<T>(self.count)) }
    }
}

impl<T: 'static> Storage for Elements<T> {
    fn clear(&mut self) {
        for (word, bits) in self.touched.iter_mut().enumerate() {
            while *bits != 0 {
                let index = word * 64 + bits.trailing_zeros() as usize;
                *bits &= *bits - 1;
                // SAFETY: an element of the array; all zero is a value of what maps hold.
                unsafe { self.start.add(index).as_ptr().write_bytes(0, 1) };
            }
        }
    }
}

/// An array of `N` elements, unless [`Array::resize`] has given it another number.
pub struct Array<T: 'static, const N: usize, const FLAGS: usize = 0> {
    place: Place<Elements<T>>,
}

impl<T, const N: usize, const FLAGS: usize> Array<T, N, FLAGS> {
    /// The array, empty in each kernel.
    pub const fn new() -> Self {
        Array { place: Place::new(|| Elements::new(N as u32)) }
    }

    /// Gives the array another number of elements, all zero.
    pub fn resize(&self, count: u32) {
        // SAFETY: no program runs.
        unsafe { *self.place.get() = Elements::new(count) }
    }

    /// How many elements there are.
    pub fn count(&self) -> u32 {
        // SAFETY: as below.
        unsafe { (*self.place.get()).count }
    }

    /// An element.
    #[inline(always)]
    pub fn get(&self, index: u32) -> Option<&T> {
        // SAFETY: an element of the array, which stays where it is; any bytes are a value of it.
        self.get_ptr_mut(index).map(|place| unsafe { &*place })
    }

    /// A pointer to an element.
    #[inline(always)]
    pub fn get_ptr(&self, index: u32) -> Option<*const T> {
        self.get_ptr_mut(index).map(<*mut T>::cast_const)
    }

    /// A pointer to an element.
    #[inline(always)]
    pub fn get_ptr_mut(&self, index: u32) -> Option<*mut T> {
        point();
        // SAFETY: the map of the kernel that this thread alone is in.
        unsafe { (*self.place.get()).at(index) }
    }
}

impl<T, const N: usize, const FLAGS: usize> Default for Array<T, N, FLAGS> {
    fn default() -> Self {
        Self::new()
    }
}

/// Most CPUs of a kernel in memory.
const CPUS: u32 = 4;

/// An array with elements of its own for each CPU.
pub struct PerCpuArray<T: 'static, const N: usize, const FLAGS: usize = 0> {
    place: Place<Elements<T>>,
}

impl<T, const N: usize, const FLAGS: usize> PerCpuArray<T, N, FLAGS> {
    /// The array, empty in each kernel.
    pub const fn new() -> Self {
        PerCpuArray { place: Place::new(|| Elements::new(CPUS * N as u32)) }
    }

    /// This CPU's element.
    #[inline(always)]
    pub fn get(&self, index: u32) -> Option<&T> {
        // SAFETY: as for an array.
        self.get_ptr_mut(index).map(|place| unsafe { &*place })
    }

    /// This CPU's element.
    #[inline(always)]
    pub fn get_ptr_mut(&self, index: u32) -> Option<*mut T> {
        self.of_cpu(with(|kernel| kernel.cpu.get()), index)
    }

    /// A CPU's element.
    pub fn of_cpu(&self, cpu: u32, index: u32) -> Option<*mut T> {
        if index >= N as u32 || cpu >= CPUS {
            return None;
        }
        // SAFETY: the map of the kernel that this thread alone is in.
        unsafe { (*self.place.get()).at(cpu * N as u32 + index) }
    }
}

impl<T, const N: usize, const FLAGS: usize> Default for PerCpuArray<T, N, FLAGS> {
    fn default() -> Self {
        Self::new()
    }
}
