//! The bucket tables of the hashing schedulers.

use crate::{
    abi::{Address, DestId},
    byte_order::Be16,
};

/// A table of a hashing scheduler, built when the list changes (see [`BucketTable`]).
pub trait Table: Copy {
    /// The destination in slot `index`, 0 if there is none.
    fn slot(&self, index: u32) -> DestId;
}

impl Table for &[DestId] {
    #[inline(always)]
    fn slot(&self, index: u32) -> DestId {
        self.get(index as usize).copied().unwrap_or(DestId::NONE)
    }
}

/// What tables the hashing schedulers are built from: a destination, in the order of the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TableDest {
    /// Its number.
    pub id: DestId,
    /// Weight now (sh).
    pub weight: u32,
    /// The last weight that was not 0 (mh).
    pub last_weight: u32,
    /// Address of the real server (mh).
    pub address: Address,
    /// Port of the real server (mh).
    pub port: Be16,
}

/// Where a destination stands while the table of mh is built.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turns {
    /// The slot to try next.
    pub(super) at: u32,
    pub(super) skip: u32,
    /// Slots that it takes in a round.
    pub(super) turns: u32,
}

/// How a scheduler makes its bucket table from the destinations of a service.
#[derive(Clone, Copy, Debug)]
pub struct BucketTable {
    /// How many slots the table has.
    pub slots: usize,
    /// Most destinations that a service of the scheduler can have.
    pub most: usize,
    /// Fills that many slots. [`Turns`] is scratch, one for each destination. `false` if the destinations do not fit.
    pub build: fn(&[TableDest], &mut [Turns], &mut [DestId]) -> bool,
}

/// The upper `bits` bits of a multiplicative hash: dh, sh and the kernel's lblc tables use it.
#[inline(always)]
pub(super) const fn bucket(value: u32, bits: u32) -> u32 {
    value.wrapping_mul(0x61c8_8647) >> (32u32.wrapping_sub(bits) & 31)
}
