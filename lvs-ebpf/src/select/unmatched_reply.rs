//! Packets of real servers that belong to no connection: with `nat_icmp_send`, the server is told that nobody waits for
//! them. TC only.

use core::ffi::c_void;
use lvs_common::abi::IpAddress;
use lvs_common::byte_order::Be16;

use aya_ebpf::helpers::generated::bpf_loop;
use lvs_common::{
    abi::{Address, DestId, Mode, Settings},
    state::sctp,
    wire::{protocol, tcp_flags},
};

use crate::{
    config::{destination::DestRef, service},
    egress::route,
    kernel::clock,
    packet::{access::Packet, access::TcPacket},
    values::parsed::Parsed,
};

/// The address and port that a destination is looked for by.
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
    // SAFETY: the callback gets the structure it expects.
    unsafe { bpf_loop(settings.dests_used, compare as *mut c_void, (&raw mut search).cast(), 0) };
    if search.found.is_none() {
        return DestId::NONE;
    }
    let to = p.destination.widen();
    // What is for the director itself has a connection of the director's own: a health check, say.
    let is_forwarded = route::lend(
        #[inline(always)]
        |route| route::route(packet, A::FAMILY, &to, clock::jiffies(), route) && !route.local,
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

extern "C" fn compare(id: u64, context: *mut c_void) -> i64 {
    // SAFETY: `sender` passed it.
    let s = unsafe { &mut *context.cast::<Search>() };
    // Slot 0 is no destination.
    let Some(dest) = DestRef::get(DestId::new(id as u32), s.epoch) else { return 0 };
    // SAFETY: an element of the map.
    let it = unsafe { &*dest.it };
    if it.port != s.port || it.family != s.family || it.address != s.address {
        return 0;
    }
    if !dest.available() || dest.config().forward != Mode::MASQ {
        return 0;
    }
    let Some(service) = service::ServiceRef::get(it.service, s.epoch) else { return 0 };
    // SAFETY: an element of the map.
    let served = unsafe { (*service.it).protocol };
    // A mark's service has none.
    if served != 0 && served != s.protocol {
        return 0;
    }
    s.found = dest.id;
    1
}
