//! Connections move from the tables of one generation to those of the next, while packets use both.
//!
//! Packets come to the next generation. It serves the connections that it has, and hands all others over to the one before. So a
//! connection may be in both tables, and the next generation's entry is the one that counts. Once no packet can be on its way that
//! did not find that entry, [`Mover::settle`] brings it what the other entry learnt meanwhile, and empties the other entry: a
//! *husk* stays, which no packet takes for a connection, and which holds nothing. It remembers where the connection went.

use std::path::Path;

use lvs_common::abi::EntryKind;

use super::super::error::Result;
use super::super::layout::Layouts;
use super::family::Family;
use super::runner::{Counts, Runner};

/// The kinds of entries, in the order in which they move: each refers to those before it.
const ORDER: [fn(EntryKind) -> bool; 3] = [
    |kind| kind == EntryKind::TEMPLATE,
    |kind| kind != EntryKind::TEMPLATE && !kind.is_alias(),
    |kind| kind.is_alias(),
];

/// See the module.
pub struct Mover {
    runner: Runner,
    four: Family<u32>,
    six: Family<[u32; 4]>,
}

impl Mover {
    /// Of two generations' directories. `is_resumed` if a command that was killed may have moved some.
    pub fn open(from: &Path, to: &Path, layouts: &Layouts, is_resumed: bool) -> Result<Self> {
        Ok(Mover {
            runner: Runner::open(from, to, is_resumed)?,
            four: Family::open(from, to, "4", layouts)?,
            six: Family::open(from, to, "6", layouts)?,
        })
    }

    /// What has moved so far.
    pub fn counts(&self) -> Counts {
        self.runner.counts
    }

    /// Copies the entries that have not moved yet: how many there were. They are in both tables after that, until
    /// [`Mover::settle`].
    pub fn copy(&mut self) -> Result<u32> {
        let mut found = 0;
        for is_due in ORDER {
            found += self.four.copy(&mut self.runner, &self.six, is_due)?;
            found += self.six.copy(&mut self.runner, &self.four, is_due)?;
        }
        Ok(found)
    }

    /// Ends the time in both tables of what was copied. No packet is on its way that has not seen the copies.
    pub fn settle(&mut self) {
        self.four.settle(&self.runner);
        self.six.settle(&self.runner);
    }
}
