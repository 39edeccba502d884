//! Packets of real servers that belong to no connection: with `nat_icmp_send`, the server is told that nobody waits for
//! them. TC only.

use lvs_common::abi::IpAddress;
use lvs_common::byte_order::Be16;

use lvs_common::{
    abi::{Address, DestId, Mode, Settings},
    state::sctp,
    wire::{protocol, tcp_flags},
};

use crate::{
    config::{destination::DestRef, service},
    egress::route,
    kernel::{
        clock,
        loops::{Turn, repeat},
    },
    packet::{access::Packet, access::TcPacket},
    values::{parsed::Parsed, route::By},
};

/// A loop over the destinations: the address and port that one is looked for by.
struct Search {
    address: Address,
    port: Be16,
    family: u8,
    protocol: u8,
    epoch: u64,
    found: DestId,
}

/// The NAT destination that is to be told of a packet without a connection, 0 if none is.
///
/// Every destination is looked at: the setting is off by default, and only packets from real servers' addresses come
/// here.
#[inline(always)]
pub fn sender<A: IpAddress>(packet: TcPacket, p: &Parsed<A>, settings: &Settings) -> DestId {
    if settings.sysctls.nat_icmp_send == 0 || packet.device() == 0 || p.ttl <= 1 || !p.has_ports() || aborts(p) {
        return DestId::NONE;
    }
    let mut search = Search {
        address: p.source.widen(),
        port: p.source_port,
        family: A::FAMILY,
        protocol: p.protocol,
        epoch: settings.epoch,
        found: DestId::NONE,
    };
    repeat(settings.dests_used, &mut search);
    if search.found.is_none() {
        return DestId::NONE;
    }
    let to = p.destination.widen();
    // What is for the director itself has a connection of the director's own: a health check, say.
    let is_forwarded = route::lend(
        #[inline(always)]
        |route| route::route(packet, A::FAMILY, &to, clock::jiffies(), route).is_ok() && route.by != By::Local,
    );
    if is_forwarded == Some(true) { search.found } else { DestId::NONE }
}

/// Whether the packet ends a connection: there is nothing to tell its sender.
#[inline(always)]
fn aborts<A>(p: &Parsed<A>) -> bool {
    match p.protocol {
        protocol::TCP => p.flags & tcp_flags::RST != 0,
        protocol::SCTP => p.flags == sctp::chunk::ABORT,
        _ => false,
    }
}

impl Turn for Search {
    #[inline(always)]
    fn turn(&mut self, id: u32) -> bool {
        // Slot 0 is no destination.
        let Some(dest) = DestRef::get(DestId::new(id), self.epoch) else { return false };
        if dest.port() != self.port || dest.family() != self.family || *dest.address() != self.address {
            return false;
        }
        if !dest.available() || dest.config().forward != Mode::MASQ {
            return false;
        }
        let Some(service) = service::ServiceRef::get(dest.service(), self.epoch) else { return false };
        let served = service.protocol();
        // A mark's service has none.
        if served != 0 && served != self.protocol {
            return false;
        }
        self.found = dest.id;
        true
    }
}
