//! Third stage, for packets without a live connection: a service, a destination, a new connection.

use crate::table::draft;
use crate::table::draft::Drafted;
use crate::values::request::Request;
use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use lvs_common::{
    abi::{Connection, DestId, EntryRef, IpAddress, Mode, Settings, service_flags},
    defence,
    exit::Exit,
    sched::{self},
    state::sctp,
    table::Store,
    wire::{protocol, tcp_flags},
};

use crate::{
    config::{self, destination::DestRef, service, watch},
    egress::refuse,
    exits,
    forward::{bypass, pipeline::forward},
    kernel::{atomics, clock, cpu, params},
    log,
    maps::{ARRIVALS, REQUESTS},
    packet::{access::Packet, control_block, parse::Family, tc::TcPacket, ttl},
    programs::{Tail, jump},
    select::{
        challenge,
        destinations::{List, Memory, Slots},
        engine,
        existing::{self, Fate},
        find_service::{self, FTP, FTP_DATA},
        mark, template, unmatched_reply,
    },
    stats,
    table::{binding, find, release, reset_queue, store::Table},
    values::parsed::Parsed,
};

/// Serves a packet for a watched address that the pipeline found no live connection for.
#[inline(always)]
pub fn run<P: Packet, A: Drafted>(packet: P) -> i32
where
    Table: Store<A>,
{
    let Some(p) = A::found() else { return P::PASS };
    let Some(settings) = config::settings() else { return P::PASS };
    if !P::COMPLETE && reset_queue::are_pending_for(p, settings) {
        return P::PASS;
    }
    let now = clock::jiffies();
    if let Some((at, connection)) = find::of_client(p) {
        match existing::of(p, settings, connection, now) {
            Fate::Live if P::COMPLETE => {
                control_block::settle(packet);
                return jump(packet, pipeline::<A>());
            }
            Fate::Drop if P::COMPLETE => return exits::drop(packet, Exit::DropNoDestination),
            Fate::Live | Fate::Drop => return P::PASS,
            Fate::Over => drop(release::remove(at, connection, settings.epoch, |_| true)),
        }
    }
    match ask(packet, p, settings, now) {
        Ok(next) => jump(packet, next),
        Err(verdict) => verdict,
    }
}

/// The program that serves a packet whose connection stands.
#[inline(always)]
fn pipeline<A: IpAddress>() -> Tail {
    if A::HEADER == 20 { Tail::Ipv4 } else { Tail::Ipv6 }
}

/// Forwards a packet whose connection is this CPU's draft.
#[inline(always)]
pub fn once<P: Packet, A: Drafted>(packet: P) -> i32
where
    Table: Store<A>,
{
    let Some(p) = A::found() else { return P::PASS };
    let Some(settings) = config::settings() else { return P::PASS };
    let Some(draft) = A::draft() else { return P::PASS };
    // SAFETY: this CPU's own draft.
    let Some(dest) = DestRef::get(unsafe { (*draft).dest }, settings.epoch) else { return P::DROP };
    forward(packet, p, settings, u32::MAX, draft, &dest, clock::jiffies())
}

/// This CPU's request.
#[inline(always)]
pub fn request() -> Option<&'static mut Request> {
    // SAFETY: this CPU's own element, of which a program takes one reference.
    REQUESTS.get_ptr_mut(cpu::number()).map(|r| unsafe { &mut *r })
}

/// Decides whether the packet may open a connection, and asks for it: the program that goes on, or what to do with the
/// packet instead.
#[inline(always)]
fn ask<P: Packet, A: Drafted>(packet: P, p: &Parsed<A>, settings: &Settings, now: u64) -> Result<Tail, i32>
where
    Table: Store<A>,
{
    let Some(service) = find_service::find(p, mark::of(packet, p, settings), settings) else {
        return Err(unserved(packet, p, settings));
    };
    let opens = schedulable(p, settings);
    if challenge::concerns(p, &service)
        && let Some(instead) = challenge::instead(packet, p, &service, settings, opens, now)
    {
        return instead;
    }
    if !opens {
        return Err(exits::pass(packet, Exit::NotFirst));
    }
    if is_kept_out(settings) {
        return Err(exits::drop(packet, Exit::DropDefence));
    }
    let config = service.config();
    if is_once(p, &service) && !P::COMPLETE {
        // Not kept, so it has to be made where it is used.
        return Err(P::PASS);
    }
    let Some(r) = request() else { return Err(exits::drop(packet, Exit::DropInternal)) };
    r.epoch = settings.epoch;
    r.service = service.id;
    r.template = EntryRef::NONE;
    r.dest = DestId::NONE;
    r.v6 = (A::HEADER > 20) as u32;
    let persistent = config.flags & service_flags::PERSISTENT != 0;
    r.engine.hash = 0;
    if persistent && config.pe != 0 {
        if !P::COMPLETE {
            return Err(P::PASS);
        }
        match engine::call_id(TcPacket(packet.skb()), p) {
            Some(engine) => r.engine = engine,
            None => return Err(exits::drop(packet, Exit::DropEngine)),
        }
    }
    if persistent && let Some((at, dest)) = template::find(p, &service, r.engine.hash, settings, now) {
        r.template = EntryRef::to(at);
        r.dest = dest;
        return Ok(open_tail::<A>());
    }
    if service.port() == 0 && service.fwmark() == 0 && !persistent {
        // For every port, and nothing to tie a client's ports together: as IPVS, no destination.
        return Ok(open_tail::<A>());
    }
    r.key.client = p.source.widen();
    r.key.virt = p.destination.widen();
    r.key.client_port = p.source_port;
    r.key.now = now / params::hz().max(1) as u64;
    Ok(Tail::Pick)
}

/// Whether `drop_packet` drops this new connection.
#[inline(always)]
fn is_kept_out(settings: &Settings) -> bool {
    if settings.drop_rate == 0 {
        return false;
    }
    let Some(arrivals) = ARRIVALS.get_ptr_mut(0) else { return false };
    defence::is_dropped(atomics::fetch_add64(arrivals, 1) as u32, settings.drop_rate)
}

/// Leaves a packet to no service alone, unless it is a real server's that is to be told that nobody waits for it.
#[inline(always)]
fn unserved<P: Packet, A: Family>(packet: P, p: &Parsed<A>, settings: &Settings) -> i32 {
    if P::COMPLETE {
        let sender = unmatched_reply::sender(TcPacket(packet.skb()), p, settings);
        if sender.is_some() && ttl::lower_ttl::<P, A>(packet) {
            return refuse::port_unreachable::<P, A>(packet, sender);
        }
    }
    exits::pass(packet, Exit::NotOurs)
}

#[inline(always)]
fn open_tail<A: IpAddress>() -> Tail {
    if A::HEADER == 20 { Tail::Open4 } else { Tail::Open6 }
}

/// Whether the packet is scheduled for itself alone.
#[inline(always)]
fn is_once<A>(p: &Parsed<A>, service: &service::ServiceRef) -> bool {
    service.config().flags & service_flags::ONE_PACKET != 0 && p.protocol == protocol::UDP
}

/// Lets the service's scheduler pick. XDP leaves the scheduler's state alone if there is no pick: TC will ask again.
#[inline(always)]
pub fn pick<P: Packet>(packet: P) -> i32 {
    let Some(r) = request() else { return P::PASS };
    let Some(settings) = config::settings() else { return P::PASS };
    if let Some(service) = service::ServiceRef::get(r.service, r.epoch) {
        // SAFETY: an element of the map.
        let (config, word) = unsafe { (&*service.config, (&raw mut (*service.config).sched_state)) };
        if sched::is_random(config.scheduler) {
            // SAFETY: a helper without arguments.
            r.key.random = unsafe { [bpf_get_prandom_u32(), bpf_get_prandom_u32()] };
        }
        let list = List {
            head: config.head,
            count: config.dest_count,
            service: service.id,
            epoch: r.epoch,
            roster: config.roster,
        };
        let lifetime = sched::memory(config.scheduler, &settings.sysctls);
        let memory = Memory { service: service.id, lifetime: lifetime as u64 };
        // SAFETY: as above.
        let state = unsafe { word.read_volatile() };
        let pick = sched::pick(&list, Slots(config.table), &memory, config, &r.key, state);
        if pick.dest.is_some() || P::COMPLETE {
            if pick.state != state && atomics::compare_exchange64(word, state, pick.state).is_err() {
                // Another CPU's pick came between: once more, as often as the kernel allows jumps.
                jump(packet, Tail::Pick);
                return exits::drop(packet, Exit::DropBusy);
            }
            r.dest = pick.dest;
        }
    }
    jump(packet, if r.v6 == 0 { Tail::Open4 } else { Tail::Open6 })
}

/// Makes the connection that was asked for.
#[inline(always)]
pub fn open<P: Packet, A: Drafted>(packet: P) -> i32
where
    Table: Store<A>,
{
    let (Some(p), Some(settings)) = (A::found(), config::settings()) else { return P::PASS };
    let Some(r) = request() else { return P::PASS };
    let Some(service) = service::ServiceRef::get(r.service, r.epoch) else { return P::PASS };
    let now = clock::jiffies();
    let Some(dest) = usable(r, &service) else {
        if !P::COMPLETE {
            return P::PASS;
        }
        if bypass::takes(TcPacket(packet.skb()), p, &service, settings) {
            return open_bypass(packet, p, &service, now);
        }
        if service.port() == FTP && p.destination_port != FTP {
            return exits::pass(packet, Exit::NotFirst);
        }
        return refuse::port_unreachable::<P, A>(packet, DestId::NONE);
    };
    if r.template.is_none() && service.config().flags & service_flags::PERSISTENT != 0 {
        let Some((at, leads_to)) = template::make(p, &service, r.engine.hash, &dest, now) else {
            return exits::drop(packet, Exit::DropTableFull);
        };
        r.template = EntryRef::to(at);
        if P::COMPLETE && r.engine.hash != 0 {
            engine::remember::<A>(TcPacket(packet.skb()), &r.engine, at);
        }
        if leads_to != dest.id {
            // Another CPU made it a moment ago, for a packet of the same client: the client sends again.
            return exits::drop(packet, Exit::DropBusy);
        }
    }
    let Some(draft) = A::draft() else { return exits::drop(packet, Exit::DropInternal) };
    if let Some(at) = r.template.get()
        && !template::leads_to::<A>(at, dest.id)
    {
        r.template = EntryRef::NONE;
    }
    draft::write(draft, p, &service, Some(&dest), r.template, now);
    let is_fullnat = dest.config().forward == Mode::FULLNAT;
    // By FullNAT, nothing leads back without a connection.
    if is_once(p, &service) && !is_fullnat {
        stats::connection(dest.id);
        return jump(packet, if A::HEADER == 20 { Tail::Once4 } else { Tail::Once6 });
    }
    if is_fullnat {
        return jump(packet, if A::HEADER == 20 { Tail::Claim4 } else { Tail::Claim6 });
    }
    enter_and_go(packet, p, draft, &service, &dest, r, now)
}

/// Puts a drafted connection into the table and goes on with its packet.
#[inline(always)]
pub fn enter_and_go<P: Packet, A: Drafted>(
    packet: P,
    p: &Parsed<A>,
    draft: *mut Connection<A>,
    service: &service::ServiceRef,
    dest: &DestRef,
    r: &Request,
    now: u64,
) -> i32
where
    Table: Store<A>,
{
    match draft::insert(p, draft, now) {
        Ok(_) => entered(packet, p, service, dest, r, now),
        Err(error) => exits::drop(packet, draft::refusal(error)),
    }
}

/// Goes on with the packet of a connection that was put into the table: counts it first.
#[inline(always)]
pub fn entered<P: Packet, A: Drafted>(
    packet: P,
    p: &Parsed<A>,
    service: &service::ServiceRef,
    dest: &DestRef,
    r: &Request,
    now: u64,
) -> i32
where
    Table: Store<A>,
{
    if service.fwmark() != 0 {
        watch::watch(p.destination);
    }
    binding::bind(dest, false);
    stats::connection(dest.id);
    if let Some(at) = r.template.get() {
        template::tie::<A>(at, now);
    }
    log::opened(packet, dest.id, pipeline::<A>())
}

/// Makes a connection without a destination, which goes where its packets say.
#[inline(always)]
fn open_bypass<P: Packet, A: Drafted>(packet: P, p: &Parsed<A>, service: &service::ServiceRef, now: u64) -> i32
where
    Table: Store<A>,
{
    let Some(draft) = A::draft() else { return exits::drop(packet, Exit::DropInternal) };
    draft::write(draft, p, service, None, EntryRef::NONE, now);
    match draft::insert(p, draft, now) {
        Ok(_) => {
            watch::watch(p.destination);
            log::opened(packet, DestId::NONE, pipeline::<A>())
        }
        Err(error) => exits::drop(packet, draft::refusal(error)),
    }
}

/// The destination that was picked, unless its slot was reused for something else in between.
#[inline(always)]
fn usable(r: &Request, service: &service::ServiceRef) -> Option<DestRef> {
    let dest = DestRef::get(r.dest, r.epoch)?;
    // SAFETY: an element of the map.
    let same = unsafe { (*dest.it).service } == service.id;
    if same && dest.available() { Some(dest) } else { None }
}

/// Whether a packet may open a connection.
#[inline(always)]
fn schedulable<A>(p: &Parsed<A>, settings: &Settings) -> bool {
    if !p.has_ports() || p.source_port == FTP_DATA && p.protocol == protocol::TCP {
        return false;
    }
    match p.protocol {
        protocol::TCP => {
            p.flags & tcp_flags::RST == 0 && (p.flags & tcp_flags::SYN != 0 || settings.sysctls.sloppy_tcp != 0)
        }
        protocol::SCTP => {
            p.flags == sctp::chunk::INIT || settings.sysctls.sloppy_sctp != 0 && p.flags != sctp::chunk::ABORT
        }
        _ => true,
    }
}
