//! Arrays of programs.

use crate::kernel::{Place, Storage};
use crate::program::Program;

/// The programs, by slot.
pub struct Slots(Vec<Option<Program>>);

impl Storage for Slots {
    /// Programs stay: they are loaded once.
    fn clear(&mut self) {}
}

/// What tail calls reach.
pub struct ProgramArray<const N: usize, const FLAGS: usize = 0> {
    place: Place<Slots>,
}

impl<const N: usize, const FLAGS: usize> ProgramArray<N, FLAGS> {
    /// The array, empty in each kernel.
    pub const fn new() -> Self {
        ProgramArray { place: Place::new(|| Slots(vec![None; N])) }
    }

    /// Puts a program into a slot, or takes it out.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn set(&self, slot: u32, program: Option<Program>) {
        // SAFETY: no program runs.
        let slots = unsafe { &mut (*self.place.get()).0 };
        slots[slot as usize] = program;
    }

    /// The program of a slot.
    pub fn program(&self, slot: u32) -> Option<Program> {
        // SAFETY: the map of the kernel that this thread alone is in.
        let slots = unsafe { &(*self.place.get()).0 };
        slots.get(slot as usize).copied().flatten()
    }
}

impl<const N: usize, const FLAGS: usize> Default for ProgramArray<N, FLAGS> {
    fn default() -> Self {
        Self::new()
    }
}
