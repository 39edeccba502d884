//! The program `Open`: makes the connection to the destination that was picked.

use lvs_common::abi::DestId;
use lvs_common::abi::EntryRef;
use lvs_common::{
    abi::{Address, IpAddress, Mode, Settings, service_flags},
    exit::Exit,
    lookup::FTP,
    programs::Program,
    table::InsertError,
};

use crate::{
    config::{self, destination::DestRef, service::ServiceRef, watch},
    egress::{
        refuse::{self, Sender},
        route,
    },
    exits,
    kernel::clock,
    log,
    packet::{access::Packet, access::TcPacket, handover, parse::Family},
    programs::jump,
    select::{admit, engine, find_service::is_one_packet, make_room, request, template},
    stats,
    table::{binding, draft, entry::Entry},
    values::{parsed::Parsed, request::Request, route::By},
};

/// Makes the connection that was asked for.
#[inline(always)]
pub fn run<P: Packet, A: Family>(packet: P) -> i32 {
    let (Some(p), Some(settings)) = (handover::load::<A>(), config::settings()) else { return P::PASS };
    request::lend(
        #[inline(always)]
        |r| open(packet, p, settings, r, clock::jiffies()),
    )
    .unwrap_or(P::PASS)
}

#[inline(always)]
fn open<P: Packet, A: Family>(packet: P, p: &Parsed<A>, settings: &Settings, r: &mut Request, now: u64) -> i32 {
    let Some(service) = ServiceRef::get(r.service, r.epoch) else { return P::PASS };
    let Some(dest) = usable(r, &service) else {
        return match packet.in_tc() {
            Ok(packet) => without_server(packet, p, &service, settings, now),
            Err(verdict) => verdict,
        };
    };
    if admit::leaves_loopback(packet, p, &dest) {
        return exits::drop(packet, Exit::DropLoopback);
    }
    if r.template.is_none() && service.config().flags & service_flags::PERSISTENT != 0 {
        let (at, leads_to) = match template::make(p, &service, r.engine.hash, &dest, now) {
            Ok(made) => made,
            Err(error) => return make_room::or_refuse::<_, A>(packet, error),
        };
        r.template = EntryRef::to(at);
        if r.engine.hash != 0
            && let Ok(packet) = packet.in_tc()
        {
            engine::remember::<A>(packet, &r.engine, at);
        }
        if leads_to != dest.id {
            // Another CPU made the template a moment ago, for a packet of the same client: the client sends again.
            return exits::drop(packet, Exit::DropBusy);
        }
    }
    if let Some(template) = r.template.get()
        && !template::leads_to::<A>(template, dest.id)
    {
        r.template = EntryRef::NONE;
    }
    let Some(draft) = draft::write(p, &service, Some(&dest), r.template, now) else {
        return exits::drop(packet, Exit::DropInternal);
    };
    if dest.config().forward == Mode::FULLNAT {
        return jump::<A, _>(packet, Program::ClaimPort);
    }
    // FullNAT stores the connection of one packet, too: without it, no reply finds its client.
    if is_one_packet(p, &service) {
        stats::connection(dest.id);
        return jump::<A, _>(packet, Program::OnePacket);
    }
    insert(packet, p, draft, &service, &dest, r, now)
}

/// Puts a drafted connection into the table and goes on with its packet.
#[inline(always)]
fn insert<P: Packet, A: IpAddress>(
    packet: P,
    p: &Parsed<A>,
    draft: Entry<A>,
    service: &ServiceRef,
    dest: &DestRef,
    r: &Request,
    now: u64,
) -> i32 {
    match draft::insert(draft, now) {
        Ok(_) => inserted(packet, p, service, dest, r, now),
        // Another CPU has made it a moment ago, or it came from a table that this one takes the place of.
        Err(InsertError::Exists(_)) => jump::<A, _>(packet, Program::Receive),
        Err(error) => make_room::or_refuse::<_, A>(packet, error),
    }
}

/// Counts a connection that was put into the table, and goes on with its packet.
#[inline(always)]
pub fn inserted<P: Packet, A: IpAddress>(
    packet: P,
    p: &Parsed<A>,
    service: &ServiceRef,
    dest: &DestRef,
    r: &Request,
    now: u64,
) -> i32 {
    if service.fwmark() != 0 {
        watch::watch(p.destination);
    }
    binding::bind(dest, false);
    stats::connection(dest.id);
    if let Some(template) = r.template.get() {
        template::tie::<A>(template, now);
    }
    log::opened(packet, dest.id, Program::Receive.slot(A::IS_V4));
    jump::<A, _>(packet, Program::Receive)
}

/// The destination that was picked, unless its slot was given to another destination in between.
#[inline(always)]
fn usable(r: &Request, service: &ServiceRef) -> Option<DestRef> {
    let dest = DestRef::get(r.dest, r.epoch)?;
    let is_same = dest.service() == service.id;
    if is_same && dest.available() { Some(dest) } else { None }
}

/// What becomes of a packet for a service without a usable destination.
#[inline(always)]
fn without_server<A: IpAddress>(
    packet: TcPacket,
    p: &Parsed<A>,
    service: &ServiceRef,
    settings: &Settings,
    now: u64,
) -> i32 {
    if is_bypassed(packet, p, service, settings, now) {
        return open_bypass(packet, p, service, now);
    }
    if service.port() == FTP && p.destination_port != FTP {
        return exits::pass(packet, Exit::NotFirst);
    }
    refuse::port_unreachable::<A>(packet, Sender::VIP)
}

/// Whether such a packet goes on to its own destination (`cache_bypass`).
#[inline(always)]
fn is_bypassed<A: IpAddress>(
    packet: TcPacket,
    p: &Parsed<A>,
    service: &ServiceRef,
    settings: &Settings,
    now: u64,
) -> bool {
    if settings.sysctls.cache_bypass == 0 || service.fwmark() == 0 || is_multicast(p.destination) {
        return false;
    }
    let to = p.destination.widen();
    route::lend(
        #[inline(always)]
        |route| route::route(packet, A::FAMILY, &to, now, route).is_ok() && route.by != By::Local,
    )
    .unwrap_or(false)
}

/// Whether an address is a multicast address, or IPv4's broadcast or reserved.
#[inline(always)]
fn is_multicast<A: IpAddress>(address: A) -> bool {
    let Address([first, ..]) = address.widen();
    let [a, ..] = first.to_ne_bytes();
    if A::IS_V4 { a >= 224 } else { a == 0xff }
}

/// Makes a connection without a real server.
#[inline(always)]
fn open_bypass<A: IpAddress>(packet: TcPacket, p: &Parsed<A>, service: &ServiceRef, now: u64) -> i32 {
    let Some(draft) = draft::write(p, service, None, EntryRef::NONE, now) else {
        return exits::drop(packet, Exit::DropInternal);
    };
    match draft::insert(draft, now) {
        Ok(_) => {
            watch::watch(p.destination);
            log::opened(packet, DestId::NONE, Program::Receive.slot(A::IS_V4));
            jump::<A, _>(packet, Program::Receive)
        }
        Err(error) => make_room::or_refuse::<_, A>(packet, error),
    }
}
