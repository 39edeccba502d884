//! Ends the connections of a destination at once, for `lvsadm drain --reset`.

use lvs_common::abi::{Connection, DestId};

use crate::{
    config,
    packet::{access::TcPacket, control_block, parse::Family},
    upkeep::sweep::{self, Doom},
};

/// A destination whose connections are to end.
#[derive(Clone, Copy)]
struct Drained(DestId);

impl Doom for Drained {
    #[inline(always)]
    fn dooms<A: Family>(self, c: &Connection<A>, _: u64) -> bool {
        c.dest == self.0
    }
}

/// Takes out the connections of the destination that `lvsadm` passed.
#[inline(always)]
pub fn run(packet: TcPacket) -> i32 {
    let Some(settings) = config::settings() else { return 0 };
    sweep::run(packet, Drained(control_block::drained(packet)), settings.epoch)
}
