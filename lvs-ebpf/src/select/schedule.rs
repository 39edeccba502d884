//! Third stage, for packets without a live connection: a service, a destination, a new connection.

use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use lvs_common::{
    abi::{
        Connection, DestId, Forward, IpAddress, Scheduler, ServiceId, Settings, conn_flags, conn_kind, service_flags,
    },
    defence,
    exit::Exit,
    persist,
    sched::{self, PickKey},
    state::sctp,
    table::{self, InsertError, Store},
    wire::{protocol, tcp_flags},
};

use crate::{
    exits,
    forward::{bypass, pipeline::forward},
    kernel::{atomics, params},
    log,
    maps::{ARRIVALS, ONCE4, ONCE6, REQUESTS},
    packet::{
        access::Packet,
        control_block,
        parse::{Family, Parsed},
        tc::TcPacket,
        ttl,
    },
    programs::{Tail, jump},
    rare::{reject, reset},
    select::{
        challenge,
        destinations::{List, Memory, Slots},
        engine::{self, Engine},
        existing::{self, Fate},
        mark,
        service::{self, FTP, FTP_DATA},
        template, unmatched_reply,
    },
    table::track::{self, Dest, Table},
};

/// Seconds a connection lives until its first packet's state says otherwise.
const INITIAL_TIMEOUT: u32 = 3;

/// Serves a packet for a watched address that the pipeline found no live connection for.
#[inline(always)]
pub fn run<P: Packet, A: Drafted>(packet: P) -> i32
where
    Table: Store<A>,
{
    let Some(p) = A::found() else { return P::PASS };
    let Some(settings) = track::settings() else { return P::PASS };
    if !P::COMPLETE && reset::wait_for(p, settings) {
        return P::PASS;
    }
    let now = track::jiffies();
    if let Some((at, connection)) = track::of_client(p) {
        match existing::of(p, settings, connection, now) {
            Fate::Live if P::COMPLETE => {
                control_block::settle(packet);
                return jump(packet, pipeline::<A>());
            }
            Fate::Drop if P::COMPLETE => return exits::drop(packet, Exit::DropNoDestination),
            Fate::Live | Fate::Drop => return P::PASS,
            Fate::Over => drop(track::remove(at, connection, settings.epoch, |_| true)),
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
    let Some(settings) = track::settings() else { return P::PASS };
    let Some(draft) = A::draft() else { return P::PASS };
    // SAFETY: this CPU's own draft.
    let Some(dest) = Dest::get(unsafe { (*draft).dest }, settings.epoch) else { return P::DROP };
    forward(packet, p, settings, u32::MAX, draft, &dest, track::jiffies())
}

/// What the programs that open a connection together tell each other: a connection is decided on here, a destination
/// picked by `pick`, and the connection made by `open`.
#[repr(C)]
pub struct Request {
    key: PickKey,
    pub epoch: u64,
    pub service: ServiceId,
    /// Entry of the template that decides, plus 1; 0 for none.
    template: u32,
    engine: Engine,
    /// The destination, 0 while (or if) there is none.
    pub dest: DestId,
    /// 1 for IPv6.
    v6: u32,
}

/// This CPU's request.
#[inline(always)]
pub fn request() -> Option<&'static mut Request> {
    // SAFETY: this CPU's own element, of which a program takes one reference.
    REQUESTS.get_ptr_mut(exits::cpu()).map(|r| unsafe { &mut *r })
}

/// Decides whether the packet may open a connection, and asks for it: the program that goes on, or what to do with the
/// packet instead.
#[inline(always)]
fn ask<P: Packet, A: Drafted>(packet: P, p: &Parsed<A>, settings: &Settings, now: u64) -> Result<Tail, i32>
where
    Table: Store<A>,
{
    let Some(service) = service::find(p, mark::of(packet, p, settings), settings) else {
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
    r.template = 0;
    r.dest = 0;
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
        r.template = at.wrapping_add(1);
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
        if sender != 0 && ttl::lower_ttl::<P, A>(packet) {
            return reject::port_unreachable::<P, A>(packet, sender);
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
fn is_once<A>(p: &Parsed<A>, service: &service::Found) -> bool {
    service.config().flags & service_flags::ONE_PACKET != 0 && p.protocol == protocol::UDP
}

/// Lets the service's scheduler pick. XDP leaves the scheduler's state alone if there is no pick: TC will ask again.
#[inline(always)]
pub fn pick<P: Packet>(packet: P) -> i32 {
    let Some(r) = request() else { return P::PASS };
    let Some(settings) = track::settings() else { return P::PASS };
    if let Some(service) = service::Found::get(r.service, r.epoch) {
        // SAFETY: an element of the map.
        let (config, word) = unsafe { (&*service.config, (&raw mut (*service.config).sched_state)) };
        if config.scheduler == Scheduler::Twos as u8 {
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
        let lifetime = match config.scheduler == Scheduler::Lblc as u8 {
            true => settings.sysctls.lblc_expiration,
            false => settings.sysctls.lblcr_expiration,
        };
        let memory = Memory { service: service.id, lifetime: lifetime as u64 };
        // SAFETY: as above.
        let state = unsafe { word.read_volatile() };
        let pick = sched::pick(&list, Slots(config.table), &memory, config, &r.key, state);
        if pick.dest != 0 || P::COMPLETE {
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
    let (Some(p), Some(settings)) = (A::found(), track::settings()) else { return P::PASS };
    let Some(r) = request() else { return P::PASS };
    let Some(service) = service::Found::get(r.service, r.epoch) else { return P::PASS };
    let now = track::jiffies();
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
        return reject::port_unreachable::<P, A>(packet, 0);
    };
    if r.template == 0 && service.config().flags & service_flags::PERSISTENT != 0 {
        let Some((at, leads_to)) = template::make(p, &service, r.engine.hash, &dest, now) else {
            return exits::drop(packet, Exit::DropTableFull);
        };
        r.template = at.wrapping_add(1);
        if P::COMPLETE && r.engine.hash != 0 {
            engine::remember::<A>(TcPacket(packet.skb()), &r.engine, at);
        }
        if leads_to != dest.id {
            // Another CPU made it a moment ago, for a packet of the same client: the client sends again.
            return exits::drop(packet, Exit::DropBusy);
        }
    }
    let Some(draft) = A::draft() else { return exits::drop(packet, Exit::DropInternal) };
    if r.template != 0 && !template::leads_to::<A>(r.template.wrapping_sub(1), dest.id) {
        r.template = 0;
    }
    write(draft, p, &service, Some(&dest), r.template, now);
    let is_fullnat = dest.config().forward == Forward::FullNat as u8;
    // By FullNAT, nothing leads back without a connection.
    if is_once(p, &service) && !is_fullnat {
        exits::connection(dest.id);
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
    service: &service::Found,
    dest: &Dest,
    r: &Request,
    now: u64,
) -> i32
where
    Table: Store<A>,
{
    match enter(p, draft, now) {
        Ok(_) => entered(packet, p, service, dest, r, now),
        Err(error) => exits::drop(packet, refusal(error)),
    }
}

/// Goes on with the packet of a connection that was put into the table: counts it first.
#[inline(always)]
pub fn entered<P: Packet, A: Drafted>(
    packet: P,
    p: &Parsed<A>,
    service: &service::Found,
    dest: &Dest,
    r: &Request,
    now: u64,
) -> i32
where
    Table: Store<A>,
{
    if service.fwmark() != 0 {
        track::watch(p.destination);
    }
    track::bind(dest, false);
    exits::connection(dest.id);
    if r.template != 0 {
        template::tie::<A>(r.template.wrapping_sub(1), now);
    }
    log::opened(packet, dest.id, pipeline::<A>())
}

/// Why a packet is dropped whose connection was not put in.
#[inline(always)]
pub fn refusal(error: InsertError) -> Exit {
    match error {
        InsertError::Full => Exit::DropTableFull,
        // Another CPU made it a moment ago (or holds the bucket): the client sends again.
        InsertError::Busy | InsertError::Exists(_) => Exit::DropBusy,
    }
}

/// Makes a connection without a destination, which goes where its packets say.
#[inline(always)]
fn open_bypass<P: Packet, A: Drafted>(packet: P, p: &Parsed<A>, service: &service::Found, now: u64) -> i32
where
    Table: Store<A>,
{
    let Some(draft) = A::draft() else { return exits::drop(packet, Exit::DropInternal) };
    write(draft, p, service, None, 0, now);
    match enter(p, draft, now) {
        Ok(_) => {
            track::watch(p.destination);
            log::opened(packet, 0, pipeline::<A>())
        }
        Err(error) => exits::drop(packet, refusal(error)),
    }
}

/// The destination that was picked, unless its slot was reused for something else in between.
#[inline(always)]
fn usable(r: &Request, service: &service::Found) -> Option<Dest> {
    let dest = Dest::get(r.dest, r.epoch)?;
    // SAFETY: an element of the map.
    let same = unsafe { (*dest.it).service } == service.id;
    if same && dest.available() { Some(dest) } else { None }
}

/// Where a connection is written before it goes into the table; one of a single packet never does.
pub trait Drafted: Family + 'static {
    /// This CPU's place.
    fn draft() -> Option<*mut Connection<Self>>;
}

impl Drafted for u32 {
    #[inline(always)]
    fn draft() -> Option<*mut Connection<u32>> {
        ONCE4.get_ptr_mut(exits::cpu())
    }
}

impl Drafted for [u32; 4] {
    #[inline(always)]
    fn draft() -> Option<*mut Connection<[u32; 4]>> {
        ONCE6.get_ptr_mut(exits::cpu())
    }
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

/// Whether replies pass the director.
#[inline(always)]
fn is_translated(mode: u8) -> bool {
    mode == Forward::Masq as u8 || mode == Forward::FullNat as u8
}

/// Writes the connection that a packet opens; one without a destination is bypassed.
#[inline(always)]
fn write<A: Family>(
    draft: *mut Connection<A>,
    p: &Parsed<A>,
    service: &service::Found,
    dest: Option<&Dest>,
    template: u32,
    now: u64,
) {
    let (id, mode, real, port) = match dest {
        // SAFETY: an element of the map.
        Some(dest) => unsafe {
            let (address, family, port) = ((*dest.it).address, (*dest.it).family, (*dest.it).port);
            let real = if family == A::FAMILY { A::narrow(address) } else { A::default() };
            (dest.id, dest.config().forward, real, port)
        },
        None => (0, Forward::Bypass as u8, p.destination, p.destination_port),
    };
    // SAFETY: this CPU's own draft.
    unsafe {
        (*draft).client = p.source;
        (*draft).virt = p.destination;
        (*draft).client_port = p.source_port;
        (*draft).virt_port = p.destination_port;
        (*draft).protocol = p.protocol;
        (*draft).kind = conn_kind::CONNECTION;
        (*draft).forward = mode;
        (*draft).last_seen = now;
        (*draft).dest = id;
        (*draft).state = conn_flags::INACTIVE | if is_translated(mode) { 0 } else { conn_flags::NO_OUTPUT };
        (*draft).timeout = INITIAL_TIMEOUT.wrapping_mul(params::hz());
        (*draft).in_packets = 0;
        (*draft).control = template;
        (*draft).controlled = 0;
        (*draft).fwmark = service.fwmark();
        (*draft).real = real;
        (*draft).real_port =
            persist::real_port(service.config(), service.port(), service.fwmark(), p.destination_port, port);
        (*draft).reply_hop.checked = 0;
        (*draft).engine = 0;
        (*draft).alias = 0;
        (*draft).local_id = 0;
    }
}

/// Copies a connection, as words: LLVM's BPF back end cannot expand a copy whose alignment exceeds eight.
#[inline(always)]
pub unsafe fn copy<A>(from: *const Connection<A>, to: *mut Connection<A>) {
    let (from, to) = (from.cast::<u64>(), to.cast::<u64>());
    for i in 0..size_of::<Connection<A>>() / 8 {
        // SAFETY: the caller's connections, which are whole words long.
        unsafe { to.add(i).write_volatile(from.add(i).read()) }
    }
}

/// Puts a drafted connection into the table: its entry.
#[inline(always)]
pub fn enter<A: Family>(p: &Parsed<A>, draft: *mut Connection<A>, now: u64) -> Result<u32, InsertError>
where
    Table: Store<A>,
{
    table::insert(
        &Table,
        track::hash(p.source, p.source_port, p.protocol),
        now.wrapping_add(INITIAL_TIMEOUT.wrapping_mul(params::hz()) as u64),
        |c| track::is_of_client(c, p),
        // SAFETY: an entry of the table that nobody else can find yet.
        |c| unsafe { copy(draft, c) },
    )
    .map(|(at, _)| at)
}
