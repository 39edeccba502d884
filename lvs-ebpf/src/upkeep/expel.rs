//! Ends the connections of clients that may not come in any more, after a list of clients has changed.

use lvs_common::abi::{Connection, EntryKind, ServiceId};

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
        // One without a real server is of no service: service 0 has the lists for all.
        let service = DestRef::get(c.dest, epoch).map_or(ServiceId::NONE, |dest| dest.service());
        let lists = ServiceRef::get_any(service, epoch).and_then(|service| access::lists_for(&service, epoch));
        lists.is_some_and(|lists| access::refusal(c.client, lists, Count::Nothing).is_some())
    }
}

/// Takes out the connections of clients that may not come in.
#[inline(always)]
pub fn run(packet: TcPacket) -> i32 {
    let Some(settings) = config::settings() else { return 0 };
    sweep::run(packet, Refused, settings.epoch)
}
