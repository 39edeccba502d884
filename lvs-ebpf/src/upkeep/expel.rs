//! Ends the connections of clients that may not come in any more, after a list of clients has changed.

use lvs_common::abi::{Connection, EntryKind};

use crate::{
    config::{
        self,
        access::{self, Count},
        destination::DestRef,
        service::ServiceRef,
    },
    packet::{access::TcPacket, parse::Family},
    upkeep::sweep::{self, Doom},
};

/// Whoever may not come in.
#[derive(Clone, Copy)]
struct Refused;

impl Doom for Refused {
    /// Templates stay: they lead nobody to a server who may not come in, and may be those of many clients.
    #[inline(always)]
    fn dooms<A: Family>(self, c: &Connection<A>, epoch: u64) -> bool {
        if c.kind == EntryKind::TEMPLATE {
            return false;
        }
        let service = DestRef::get(c.dest, epoch).and_then(|dest| ServiceRef::get_any(dest.service(), epoch));
        access::refusal(c.client, service.as_ref(), epoch, Count::Nothing).is_some()
    }
}

/// Takes out the connections of clients that may not come in.
#[inline(always)]
pub fn run(packet: TcPacket) -> i32 {
    let Some(settings) = config::settings() else { return 0 };
    sweep::run(packet, Refused, settings.epoch)
}
