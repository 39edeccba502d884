//! The connection table of a family, read by the functions that the programs search it by.

use lvs_common::abi::{Bucket, Connection, conn_flags};
use lvs_common::table::Store;
use lvs_common::verifier::{Each, Plain};

use super::mapped::Mapped;

/// A family's table in this program's memory, to be read.
pub struct Table<'a, A> {
    /// Its buckets.
    pub buckets: &'a Mapped<Bucket>,
    /// Its entries.
    pub connections: &'a Mapped<Connection<A>>,
}

impl<A> Each for Table<'_, A> {
    fn each<F: FnMut(u32) -> bool>(&self, times: u32, turn: &mut F) {
        Plain.each(times, turn);
    }
}

impl<A: Copy> Store<A> for Table<'_, A> {
    fn buckets(&self) -> u32 {
        self.buckets.count()
    }

    fn bucket(&self, index: u32) -> Option<*mut Bucket> {
        (index < self.buckets.count()).then(|| self.buckets.at(index))
    }

    fn connection(&self, index: u32) -> Option<*mut Connection<A>> {
        (index < self.connections.count()).then(|| self.connections.at(index))
    }

    // Whoever reads takes no lock and changes nothing.
    fn lock(&self, _: *mut Bucket) -> bool {
        false
    }

    fn unlock(&self, _: *mut Bucket) {}

    fn add(&self, _: *mut u32, _: u32) {}

    fn lower_due(&self, _: *mut Bucket, _: u64) {}

    fn barrier(&self, _: *mut Bucket) {}
}

impl<A: Copy> Table<'_, A> {
    /// An entry, if it is alive.
    pub fn get(&self, index: u32) -> Option<Connection<A>> {
        let it = (index < self.connections.count()).then(|| self.connections.get(index))?;
        (it.state & conn_flags::DEAD == 0).then_some(it)
    }
}
