//! Ends many connections at once. Its programs are attached nowhere: `lvsadm` runs them over one part of the connection
//! tables after another.

use core::marker::PhantomData;

use lvs_common::abi::{Connection, EntryKind, WAYS, conn_flags};

use crate::{
    kernel::{
        loops::{Turn, repeat},
        shared::field,
    },
    packet::{access::TcPacket, control_block, parse::Family},
    table::{entry::Entry, release, store},
};

/// Which connections are to end. Aliases are removed with their connections.
pub trait Doom: Copy {
    /// Whether a connection, or a template, is to end.
    fn dooms<A: Family>(self, c: &Connection<A>, epoch: u64) -> bool;
}

/// Removes every connection that is to end, and every such template that controls none (any more): how many. A template that
/// still does matches no more clients.
#[inline(always)]
pub fn run<D: Doom>(packet: TcPacket, doom: D, epoch: u64) -> i32 {
    let (from, count) = control_block::part(packet);
    let mut v4 = Sweep::<D, u32> { doom, from, epoch, bucket: 0, ended: 0, family: PhantomData };
    repeat(count, &mut v4);
    let mut v6 = Sweep::<D, [u32; 4]> { doom, from, epoch, bucket: 0, ended: v4.ended, family: PhantomData };
    repeat(count, &mut v6);
    v6.ended as i32
}

/// A loop over buckets of a family.
struct Sweep<D, A> {
    doom: D,
    from: u32,
    epoch: u64,
    /// The bucket at hand.
    bucket: u32,
    /// How many entries were removed.
    ended: u32,
    family: PhantomData<A>,
}

impl<D: Doom, A: Family> Turn for Sweep<D, A> {
    #[inline(always)]
    fn turn(&mut self, index: u32) -> bool {
        self.bucket = self.from.wrapping_add(index);
        let Some(bucket) = store::bucket::<A>(self.bucket) else { return true };
        if field!(bucket.used).load() != 0 {
            repeat(WAYS, &mut |way| {
                if let Some((at, connection)) = store::occupied::<A>(self.bucket, way) {
                    self.end(at, connection);
                }
                false
            });
        }
        false
    }
}

impl<D: Doom, A: Family> Sweep<D, A> {
    /// Removes an entry if it is to end.
    #[inline(always)]
    fn end(&mut self, at: u32, connection: Entry<A>) {
        let (c, dest) = (connection.get(), connection.get().dest);
        if EntryKind::is_alias(c.kind) || !self.doom.dooms(c, self.epoch) {
            return;
        }
        if c.kind == EntryKind::TEMPLATE {
            // If another CPU changes it at the same time, the next run does it.
            let _ = connection.state_word().compare_exchange(c.state, c.state | conn_flags::INVALID);
        }
        if release::remove(at, connection, self.epoch, |c| c.dest == dest && c.controlled == 0) {
            self.ended = self.ended.wrapping_add(1);
        }
    }
}
