//! Queues.

use std::borrow::Borrow;
use std::collections::VecDeque;

use crate::kernel::{Place, Storage};

const E2BIG: i32 = 7;

/// What waits.
pub struct Waiting<T>(VecDeque<T>);

impl<T: 'static> Storage for Waiting<T> {
    fn clear(&mut self) {
        self.0.clear();
    }
}

/// A queue of `N` elements at most.
pub struct Queue<T: 'static, const N: usize, const FLAGS: usize = 0> {
    place: Place<Waiting<T>>,
}

impl<T: Copy, const N: usize, const FLAGS: usize> Queue<T, N, FLAGS> {
    /// The queue, empty in each kernel.
    pub const fn new() -> Self {
        Queue { place: Place::new(|| Waiting(VecDeque::new())) }
    }

    #[allow(clippy::mut_from_ref, reason = "maps are statics, which programs change")]
    fn list(&self) -> &mut VecDeque<T> {
        // SAFETY: the map of the kernel that this thread alone is in; the borrow lasts for a call.
        unsafe { &mut (*self.place.get()).0 }
    }

    /// Appends an element.
    ///
    /// # Errors
    /// The queue is full.
    pub fn push(&self, value: impl Borrow<T>, _flags: u64) -> Result<(), i32> {
        if self.list().len() >= N {
            return Err(-E2BIG);
        }
        self.list().push_back(*value.borrow());
        Ok(())
    }

    /// Takes the first element.
    ///
    /// # Errors
    /// None; an empty queue is `Ok(None)`.
    pub fn pop(&self) -> Result<Option<T>, i32> {
        Ok(self.list().pop_front())
    }
}

impl<T: Copy, const N: usize, const FLAGS: usize> Default for Queue<T, N, FLAGS> {
    fn default() -> Self {
        Self::new()
    }
}
