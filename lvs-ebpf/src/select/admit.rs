//! Which packets may open a connection: see [`lvs_common::admission`]. Asked once for a connection, so established packets pay
//! nothing.

use lvs_common::{
    abi::{Address, IpAddress, Settings, device_flags},
    admission::{self, Way},
    exit::Exit,
};

use crate::{
    config::{destination::DestRef, device::device, service::ServiceRef},
    egress::{fib, route},
    exits,
    kernel::clock,
    packet::{
        access::Packet,
        control_block::{self, Flag},
    },
    values::parsed::Parsed,
};

/// The verdict on a packet that may not open a connection of this service. The director's own packets may.
#[inline(always)]
pub fn refusal<P: Packet, A: IpAddress>(
    packet: P,
    p: &Parsed<A>,
    service: &ServiceRef,
    settings: &Settings,
) -> Option<i32> {
    let from = packet.device();
    if from == 0 {
        return None;
    }
    let mut flags = device(from).map_or(0, |device| device.flags);
    if admission::is_martian(p.source, p.destination, flags) {
        return Some(exits::drop(packet, Exit::DropMartian));
    }
    let (source, destination) = (p.source.widen(), p.destination.widen());
    if is_routed_on(packet, p, service, settings) {
        return Some(exits::pass(packet, Exit::Transit));
    }
    if control_block::has(packet, Flag::Quoted) {
        // An error may come another way than its client.
        flags &= !(device_flags::STRICT_SOURCES | device_flags::ROUTED_SOURCES);
    }
    let refused = judge_source::<P, A>(packet, from, flags, &source, &destination)?;
    Some(exits::drop(packet, refused))
}

/// Whether a packet for the address of a service is one that the host routes on, or refuses by a route.
#[inline(always)]
pub fn is_routed_on<P: Packet, A: IpAddress>(
    packet: P,
    p: &Parsed<A>,
    service: &ServiceRef,
    settings: &Settings,
) -> bool {
    service.fwmark() == 0 && settings.sysctls.transit == 0 && packet.device() != 0 && is_elsewhere(packet, p, service)
}

#[inline(always)]
fn is_elsewhere<P: Packet, A: IpAddress>(packet: P, p: &Parsed<A>, service: &ServiceRef) -> bool {
    let (here, device, now) = (service.here(), packet.device(), clock::jiffies());
    if admission::is_known_here(here.load(), device, now) {
        return false;
    }
    let way = fib::way_on(packet, A::FAMILY, &p.source.widen(), &p.destination.widen());
    if way == Way::Here {
        here.store(admission::known_here(device, now));
    }
    way.is_transit()
}

/// Why a packet's source is refused, if it is.
#[inline(always)]
fn judge_source<P: Packet, A: IpAddress>(
    packet: P,
    from: u32,
    flags: u16,
    source: &Address,
    destination: &Address,
) -> Option<Exit> {
    let (way, by) = fib::ask(packet, A::FAMILY, route::LOOPBACK, destination, source);
    admission::judge_source::<A>(
        way,
        flags,
        #[inline(always)]
        || by == from || fib::leads_by(packet, A::FAMILY, from, source),
        #[inline(always)]
        || fib::is_own(packet, A::FAMILY, source),
    )
}

/// Whether a new connection to `dest` would put a loopback address on a wire.
#[inline(always)]
pub fn leaves_loopback<P: Packet, A: IpAddress>(packet: P, p: &Parsed<A>, dest: &DestRef) -> bool {
    admission::leaves_loopback(
        p.source,
        dest.config().forward,
        #[inline(always)]
        || route::is_local(packet, dest.family(), dest.address(), clock::jiffies()),
    )
}
