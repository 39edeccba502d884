//! Connections that go where their packets say, for want of a real server (`cache_bypass`, in front of transparent caches).
//! TC only.

use lvs_common::{
    abi::{Address, DestId, IpAddress, NextHop, Settings},
    exit::Exit,
    table::Store,
};

use crate::{
    config::{self, service},
    egress::{gate, refuse, route, send, split},
    exits,
    kernel::clock,
    packet::{access::Packet, control_block, parse::Family, tc::TcPacket, ttl},
    table::{advance::advance, find, store::Table},
    values::parsed::{L3, Parsed},
};

/// Whether a packet for a service without a usable destination goes on to its own destination.
#[inline(always)]
pub fn takes<A: IpAddress>(
    packet: TcPacket,
    p: &Parsed<A>,
    service: &service::ServiceRef,
    settings: &Settings,
) -> bool {
    if settings.sysctls.cache_bypass == 0 || service.fwmark() == 0 || is_multicast(p.destination) {
        return false;
    }
    let Some(route) = route::scratch() else { return false };
    route::route(packet, A::FAMILY, &p.destination.widen(), clock::jiffies(), route) && !route.local
}

/// Whether an address is a multicast one, or IPv4's broadcast or reserved.
#[inline(always)]
fn is_multicast<A: IpAddress>(address: A) -> bool {
    let Address([first, ..]) = address.widen();
    let [a, ..] = first.to_ne_bytes();
    if A::HEADER == 20 { a >= 224 } else { a == 0xff }
}

/// The program that forwards them.
#[inline(always)]
pub fn run<A: Family + 'static>(packet: TcPacket) -> i32
where
    Table: Store<A>,
{
    let (Some(p), Some(settings)) = (A::found(), config::settings()) else { return TcPacket::PASS };
    let Some((at, connection)) = find::of_client(p) else { return TcPacket::PASS };
    let now = clock::jiffies();
    // SAFETY: an element of the map. There are no replies to rewrite, so their hop's place is free.
    let cache: *mut NextHop = unsafe { &raw mut (*connection).reply_hop };
    let Some(route) = route::scratch() else { return exits::drop(packet, Exit::DropInternal) };
    let to = p.destination.widen();
    if !route::cached(cache, now, route) && !route::look_up(packet, cache, A::FAMILY, &to, now, route) {
        return exits::drop(packet, Exit::DropNoRoute);
    }
    if route.local || packet.device() == 0 {
        return exits::pass(packet, Exit::Bypass);
    }
    if p.ttl <= 1 {
        return refuse::time_exceeded::<TcPacket, A>(packet, DestId::NONE, DestId::NONE);
    }
    let (mtu, largest) = (route.hop.mtu as u32, control_block::largest(packet));
    let fits = match largest {
        0 => gate::fits(packet, p.length, (p.l4() - L3) as u32 + 20, mtu),
        largest => largest <= mtu,
    };
    if !fits && p.df {
        return refuse::too_big::<TcPacket, A>(packet, mtu, DestId::NONE, DestId::NONE);
    }
    advance(at, connection, None, (p, false), settings, now);
    // SAFETY: an element of the map; a lost count between two CPUs of one connection does not matter.
    unsafe { (*connection).in_packets = (*connection).in_packets.wrapping_add(1) };
    if !ttl::lower_ttl::<TcPacket, A>(packet) {
        return exits::drop(packet, Exit::DropInternal);
    }
    if largest != 0 || !fits {
        exits::count(Exit::Bypass);
        return split::split(packet, DestId::NONE, if largest == 0 || largest > mtu { mtu } else { largest });
    }
    exits::leave(packet, Exit::Bypass, send::send_tc(packet, route))
}
