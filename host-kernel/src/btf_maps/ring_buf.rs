//! Ring buffers.

use std::collections::VecDeque;
use std::mem::MaybeUninit;

use crate::kernel::{Place, Storage};

/// Bytes before each record (`BPF_RINGBUF_HDR_SZ`).
const HEADER: usize = 8;

/// What was submitted and nobody has read.
pub struct Records<T>(VecDeque<T>);

impl<T: 'static> Storage for Records<T> {
    fn clear(&mut self) {
        self.0.clear();
    }
}

/// A ring buffer of `N` bytes.
pub struct RingBuf<T: 'static, const N: usize, const FLAGS: usize = 0> {
    place: Place<Records<T>>,
}

/// Room for a record, until it is submitted.
pub struct Entry<'a, T> {
    value: MaybeUninit<T>,
    list: &'a mut VecDeque<T>,
}

impl<T> Entry<'_, T> {
    /// The record to be.
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.value.as_mut_ptr()
    }

    /// Shows the record to readers.
    pub fn submit(self, _flags: u64) {
        // SAFETY: the program has written it; a record of integers has any bytes as a value.
        self.list.push_back(unsafe { self.value.assume_init() });
    }
}

impl<T, const N: usize, const FLAGS: usize> RingBuf<T, N, FLAGS> {
    /// The buffer, empty in each kernel.
    pub const fn new() -> Self {
        RingBuf { place: Place::new(|| Records(VecDeque::new())) }
    }

    #[allow(clippy::mut_from_ref, reason = "maps are statics, which programs change")]
    fn list(&self) -> &mut VecDeque<T> {
        // SAFETY: the map of the kernel that this thread alone is in; the borrow lasts for a call.
        unsafe { &mut (*self.place.get()).0 }
    }

    /// Room for a record; `None` if the buffer is full.
    pub fn reserve(&self, _flags: u64) -> Option<Entry<'_, T>> {
        let list = self.list();
        if (list.len() + 1) * (size_of::<T>().next_multiple_of(8) + HEADER) > N {
            return None;
        }
        Some(Entry { value: MaybeUninit::zeroed(), list })
    }

    /// What was submitted, oldest first. It is read by that.
    pub fn read(&self) -> Vec<T> {
        self.list().drain(..).collect()
    }
}

impl<T, const N: usize, const FLAGS: usize> Default for RingBuf<T, N, FLAGS> {
    fn default() -> Self {
        Self::new()
    }
}
