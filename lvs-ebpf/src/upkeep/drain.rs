//! Ends the connections of a destination at once. Not attached anywhere: `lvsadm drain --reset` runs it over one part of the
//! connection tables after another.

use core::marker::PhantomData;

use lvs_common::abi::{DestId, EntryKind, WAYS, conn_flags};

use crate::{
    config,
    kernel::{
        loops::{Turn, repeat},
        shared::field,
    },
    packet::{access::TcPacket, control_block, parse::Family},
    table::{entry::Entry, release, store},
};

/// Removes every connection of the destination, and every template that controls none (any more): how many. A template that
/// still does matches no more clients.
#[inline(always)]
pub fn run(packet: TcPacket) -> i32 {
    let Some(settings) = config::settings() else { return 0 };
    let (dest, from, count) = control_block::drain(packet);
    let mut v4 = Ending::<u32> { dest, from, epoch: settings.epoch, bucket: 0, ended: 0, family: PhantomData };
    repeat(count, &mut v4);
    let mut v6 =
        Ending::<[u32; 4]> { dest, from, epoch: settings.epoch, bucket: 0, ended: v4.ended, family: PhantomData };
    repeat(count, &mut v6);
    v6.ended as i32
}

/// A loop over buckets of a family.
struct Ending<A> {
    dest: DestId,
    from: u32,
    epoch: u64,
    /// The bucket at hand.
    bucket: u32,
    /// How many entries were removed.
    ended: u32,
    family: PhantomData<A>,
}

impl<A: Family> Turn for Ending<A> {
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

impl<A: Family> Ending<A> {
    /// Removes an entry if it is the destination's.
    #[inline(always)]
    fn end(&mut self, at: u32, connection: Entry<A>) {
        let (c, dest) = (connection.get(), self.dest);
        // An alias is removed with its connection.
        if c.dest != dest || EntryKind::is_alias(c.kind) {
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
