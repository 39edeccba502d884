//! The packet's journey: parse, find the connection, rewrite, deliver. What has no live connection goes on in
//! `schedule`.

use lvs_common::{
    abi::{Connection, DestId, IpAddress, Mode, NextHop, Settings, conn_flags, settings_flags},
    exit::Exit,
    state::{sctp, tcp},
    table::Store,
    wire::protocol,
};

use crate::{
    config::{self, destination::DestRef, watch},
    egress::{gate, refuse, route, send, split},
    exits,
    forward::{
        fullnat::serve,
        nat::{self, Side},
        tunnel::{self, Outer},
    },
    kernel::clock,
    packet::{access::Packet, control_block, parse::Family, tc::TcPacket, ttl, xdp::XdpPacket},
    programs::{Tail, jump},
    table::{
        account, find,
        reset_queue::{self, Queued},
        store::Table,
    },
    values::parsed::{L3, Parsed, Stray},
};

/// Serves a packet of family `A` in XDP, all in one program.
#[inline(always)]
pub fn run<A: Family + 'static>(packet: XdpPacket) -> i32
where
    Table: Store<A>,
{
    let Ok(p) = A::parse(packet) else { return XdpPacket::PASS };
    let Some(settings) = config::settings() else { return XdpPacket::PASS };
    let (virt, reply) = watch::watched(p.source, p.destination, settings);
    if !(virt || reply) || settings.flags & settings_flags::ANY == 0 || !packet.for_this_host() {
        return XdpPacket::PASS;
    }
    serve(packet, &p, settings, virt, reply)
}

/// Reads a packet of family `A` in TC, and leaves it to the stack or to the program that serves it.
#[inline(always)]
pub fn read<A: Queued>(packet: TcPacket) -> i32 {
    let p = match A::parse(packet) {
        Ok(p) => p,
        Err(stray) => return strayed::<A>(packet, stray),
    };
    let Some(settings) = config::settings() else { return TcPacket::PASS };
    if reset_queue::is_carrier(packet, &p, settings) && A::leave(&p) {
        return jump(packet, if A::HEADER == 20 { Tail::Reset4 } else { Tail::Reset6 });
    }
    let (virt, reply) = watch::watched(p.source, p.destination, settings);
    // A mark can be on any packet.
    let virt = virt || packet.mark() != 0 && settings.flags & settings_flags::FWMARK != 0;
    if !(virt || reply) || settings.flags & settings_flags::ANY == 0 || !packet.for_this_host() || !A::leave(&p) {
        return exits::pass(packet, Exit::NotOurs);
    }
    if packet.device() == 0 {
        packet.set_served();
    }
    control_block::watched(packet, virt, reply);
    jump(packet, if A::HEADER == 20 { Tail::Serve4 } else { Tail::Serve6 })
}

/// Serves a packet that `read` has left, in TC.
#[inline(always)]
pub fn serve_left<A: Family + 'static>(packet: TcPacket) -> i32
where
    Table: Store<A>,
{
    let (Some(p), Some(settings)) = (A::found(), config::settings()) else { return TcPacket::PASS };
    serve(packet, p, settings, control_block::is_virtual(packet), control_block::is_reply(packet))
}

/// Serves a packet that is for a watched virtual address, from a watched real server, or both.
#[inline(always)]
fn serve<P: Packet, A: Family + 'static>(packet: P, p: &Parsed<A>, settings: &Settings, virt: bool, reply: bool) -> i32
where
    Table: Store<A>,
{
    let (now, v4) = (clock::jiffies(), A::HEADER == 20);
    if virt && let Some((at, connection)) = find::of_client(p) {
        // SAFETY: an element of the map.
        let c = unsafe { &*connection };
        if P::COMPLETE && find::is_bypass(c) && !find::expired(c, now) {
            return jump(packet, if v4 { Tail::Bypass4 } else { Tail::Bypass6 });
        }
        return match DestRef::get(c.dest, settings.epoch) {
            Some(dest) if !find::expired(c, now) && dest.available() && !reopens(packet, c, p, &dest, settings) => {
                if c.forward == Mode::FULLNAT {
                    return serve::go_on(packet, p, at, if v4 { Tail::FullNat4 } else { Tail::FullNat6 });
                }
                forward(packet, p, settings, at, connection, &dest, now)
            }
            _ => schedule(packet, p),
        };
    }
    if reply && let Some((at, connection)) = find::of_server(p) {
        // SAFETY: as above.
        if unsafe { (*connection).forward } == Mode::FULLNAT {
            return serve::go_on(packet, p, at, if v4 { Tail::FullNatReply4 } else { Tail::FullNatReply6 });
        }
        if P::COMPLETE {
            // A program of its own: both directions together need more stack than there is.
            return jump(packet, if v4 { Tail::Reply4 } else { Tail::Reply6 });
        }
        return answer_fast(packet, p, settings, at, connection, now);
    }
    if virt || settings.sysctls.nat_icmp_send != 0 {
        return schedule(packet, p);
    }
    exits::pass(packet, Exit::NotOurs)
}

/// Goes on with the program that schedules.
#[inline(always)]
fn schedule<P: Packet, A: Family>(packet: P, p: &Parsed<A>) -> i32 {
    // In TC it has been left since it was read.
    if !P::COMPLETE && !A::leave(p) {
        return P::PASS;
    }
    jump(packet, if A::HEADER == 20 { Tail::New4 } else { Tail::New6 })
}

/// Sends a packet that cannot go through the pipeline where it can.
#[inline(always)]
fn strayed<A: IpAddress>(packet: TcPacket, stray: Stray) -> i32 {
    let v4 = A::HEADER == 20;
    match stray {
        Stray::Icmp => jump(packet, if v4 { Tail::Icmp4 } else { Tail::Icmp6 }),
        Stray::Fragment => jump(packet, if v4 { Tail::Fragment4 } else { Tail::Fragment6 }),
        Stray::NotOurs | Stray::Complicated => exits::pass(packet, Exit::NotOurs),
    }
}

/// Whether a packet may open a new connection in place of the one it hits: `schedule` decides.
#[inline(always)]
fn reopens<P: Packet, A: IpAddress>(
    packet: P,
    c: &Connection<A>,
    p: &Parsed<A>,
    dest: &DestRef,
    settings: &Settings,
) -> bool {
    if c.in_packets == 0 || control_block::is_settled(packet) {
        return false;
    }
    if !p.opens() {
        return find::moves_on(c, dest, settings);
    }
    let state = (c.state & conn_flags::STATE) as u8;
    let closing = match p.protocol {
        protocol::TCP => state >= tcp::FIN_WAIT,
        _ => state == sctp::CLOSED,
    };
    closing || settings.sysctls.expire_nodest_conn != 0 && dest.config().weight == 0
}

/// Forwards a client's packet of a live connection to its available destination.
#[inline(always)]
pub fn forward<P: Packet, A: Family>(
    packet: P,
    p: &Parsed<A>,
    settings: &Settings,
    at: u32,
    connection: *mut Connection<A>,
    dest: &DestRef,
    now: u64,
) -> i32
where
    Table: Store<A>,
{
    // SAFETY: elements of maps; what other CPUs change is read as wholes.
    let (c, to, family, source) = unsafe { (&*connection, &(*dest.it).address, (*dest.it).family, &(*dest.it).source) };
    // SAFETY: as above.
    let cache = unsafe { &raw mut (*dest.it).hop };
    let mode = find::mode(connection);
    if !P::COMPLETE {
        let df = p.df && A::HEADER == 20 && settings.sysctls.pmtu_disc != 0;
        let outer = || Outer::new(dest.config, family, source, to, df);
        let (served, overhead) = match mode {
            Mode::MASQ => (nat::possible(packet, p, c.real_port != p.destination_port), 0),
            Mode::ROUTE => (true, 0),
            Mode::TUNNEL => (!outer().summed(), outer().overhead()),
            _ => (false, 0),
        };
        if !served || p.ttl <= 1 {
            return P::PASS;
        }
        let Some(hop) = route::hop(packet, cache, family, to, now) else { return P::PASS };
        if p.length + overhead > hop.mtu as u32 {
            return P::PASS;
        }
        account::account_request(packet, p, settings, at, connection, dest, now);
        // Mode and tunnel are read again: the verifier would follow the rest once for each.
        let mode = find::mode(connection);
        if !modify(packet, p, Some(c).filter(|_| mode == Mode::MASQ), mode == Mode::TUNNEL, outer, true, true) {
            return exits::drop(packet, Exit::DropInternal);
        }
        return exits::leave(packet, done(mode), send::send_xdp(packet, &hop));
    }

    account::account_request(packet, p, settings, at, connection, dest, now);
    if mode == Mode::LOCAL {
        return exits::pass(packet, Exit::Local);
    }
    if mode == Mode::TUNNEL {
        // A program of its own: both ways together are more paths than the verifier follows.
        control_block::set_dest(packet, dest.id);
        return jump(packet, if A::HEADER == 20 { Tail::Encapsulate4 } else { Tail::Encapsulate6 });
    }
    send::<P, A, false>(packet, p, settings, Some(c), dest, now)
}

/// Sends a client's packet through its tunnel, in TC; `forward` has seen it.
#[inline(always)]
pub fn tunnel<A: Family + 'static>(packet: TcPacket) -> i32 {
    let (Some(p), Some(settings)) = (A::found(), config::settings()) else { return TcPacket::DROP };
    let Some(dest) = DestRef::get(control_block::dest(packet), settings.epoch) else { return TcPacket::DROP };
    send::<TcPacket, A, true>(packet, p, settings, None, &dest, clock::jiffies())
}

/// Rewrites and sends a client's packet in TC, through a tunnel or not.
#[inline(always)]
fn send<P: Packet, A: Family, const IS_TUNNEL: bool>(
    packet: P,
    p: &Parsed<A>,
    settings: &Settings,
    c: Option<&Connection<A>>,
    dest: &DestRef,
    now: u64,
) -> i32 {
    let mode = c.map_or(Mode::TUNNEL, |c| c.forward);
    // SAFETY: elements of maps; what other CPUs change is read as wholes.
    let (to, family, source) = unsafe { (&(*dest.it).address, (*dest.it).family, &(*dest.it).source) };
    // SAFETY: as above.
    let cache = unsafe { &raw mut (*dest.it).hop };
    // Without path-MTU discovery tunnels may be fragmented; an IPv6 packet says nothing about fragments of an IPv4 one.
    let refuse = p.df && !(IS_TUNNEL && settings.sysctls.pmtu_disc == 0);
    let outer = || Outer::new(dest.config, family, source, to, refuse && A::HEADER == 20);
    let overhead = if IS_TUNNEL { outer().overhead() } else { 0 };
    let Some(route) = route::scratch() else { return exits::drop(packet, Exit::DropInternal) };
    if !route::cached(cache, now, route) && !route::look_up(packet, cache, family, to, now, route) {
        return exits::drop(packet, Exit::DropNoRoute);
    }
    if route.local {
        if mode == Mode::MASQ && !modify(packet, p, c, false, outer, false, true) {
            return exits::drop(packet, Exit::DropInternal);
        }
        return exits::pass(packet, Exit::Local);
    }
    if p.ttl <= 1 && packet.device() != 0 {
        let own = if mode == Mode::MASQ { DestId::NONE } else { dest.id };
        return refuse::time_exceeded::<P, A>(packet, DestId::NONE, own);
    }
    let mtu = (route.hop.mtu as u32).wrapping_sub(overhead);
    // A packet put together from fragments leaves in fragments no larger than those.
    let largest = control_block::largest(packet);
    let fits = match largest {
        0 => gate::fits(packet, p.length, (p.l4() - L3) as u32 + 20, mtu),
        largest => largest <= mtu,
    };
    // Errors about packets that are not translated count as the connection's own, as they do for IPVS.
    let own = if mode == Mode::MASQ { DestId::NONE } else { dest.id };
    if !fits && (refuse || A::HEADER > 20) {
        return refuse::too_big::<P, A>(packet, mtu, DestId::NONE, own);
    }
    let whole = if largest == 0 { fits } else { p.length + overhead <= largest };
    if IS_TUNNEL && route::has_source(route) {
        // SAFETY: an element of the map; the same value from everybody.
        unsafe { (*dest.it).source = route::copy(&route.source) };
    }
    if !modify(packet, p, c.filter(|_| mode == Mode::MASQ), IS_TUNNEL, outer, packet.device() != 0, whole) {
        return exits::drop(packet, Exit::DropInternal);
    }
    if !whole {
        let most = route.hop.mtu as u32;
        return split::split(packet, dest.id, if largest == 0 || largest > most { most } else { largest });
    }
    exits::leave(packet, done(mode), send::send_tc(packet, route))
}

/// The exit of a mode.
#[inline(always)]
fn done(mode: Mode) -> Exit {
    match mode {
        Mode::ROUTE => Exit::Route,
        Mode::TUNNEL => Exit::Tunnel,
        _ => Exit::Nat,
    }
}

/// What the mode changes in a packet to the real server; `translated` is the connection of one that is.
#[inline(always)]
fn modify<'a, P: Packet, A: Family>(
    packet: P,
    p: &Parsed<A>,
    translated: Option<&Connection<A>>,
    is_tunnel: bool,
    outer: impl Fn() -> Outer<'a>,
    lower: bool,
    whole: bool,
) -> bool {
    if let Some(c) = translated {
        return nat::apply(packet, p, Side::Destination, c.real, c.real_port, lower);
    }
    (!lower || ttl::lower_ttl::<P, A>(packet)) && (!is_tunnel || tunnel::apply(packet, p, &outer(), whole))
}

/// Serves a real server's packet of a connection in XDP.
#[inline(always)]
fn answer_fast<P: Packet, A: Family>(
    packet: P,
    p: &Parsed<A>,
    settings: &Settings,
    at: u32,
    connection: *mut Connection<A>,
    now: u64,
) -> i32
where
    Table: Store<A>,
{
    // SAFETY: an element of the map.
    let c = unsafe { &*connection };
    let translated = c.forward == Mode::MASQ;
    if !translated || p.ttl <= 1 || !nat::possible(packet, p, c.virt_port != p.source_port) {
        return P::PASS;
    }
    let Some(dest) = DestRef::get(c.dest, settings.epoch) else { return P::PASS };
    // SAFETY: as above.
    let cache: *mut NextHop = unsafe { &raw mut (*connection).reply_hop };
    let Some(hop) = route::hop(packet, cache, A::FAMILY, &p.destination.widen(), now) else { return P::PASS };
    if p.length > hop.mtu as u32 {
        return P::PASS;
    }
    account::account_reply(p, settings, at, connection, &dest, now);
    if !nat::apply(packet, p, Side::Source, c.virt, c.virt_port, true) {
        return exits::drop(packet, Exit::DropInternal);
    }
    exits::leave(packet, Exit::NatReply, send::send_xdp(packet, &hop))
}

/// Serves a real server's packet of a connection in TC.
#[inline(always)]
pub fn answer<A: Family + 'static>(packet: TcPacket) -> i32
where
    Table: Store<A>,
{
    let (Some(p), Some(settings)) = (A::found(), config::settings()) else { return TcPacket::PASS };
    let Some((at, connection)) = find::of_server(p) else { return TcPacket::PASS };
    // SAFETY: an element of the map.
    let c = unsafe { &*connection };
    let Some(dest) = DestRef::get(c.dest, settings.epoch) else { return TcPacket::PASS };
    let now = clock::jiffies();
    if c.forward != Mode::MASQ {
        if A::HEADER == 20 && !reset_queue::is_reset_of(c, p) && is_own::<A>(packet, p, now) {
            // From an address of the director's own: the stack takes it for a martian.
            return exits::pass(packet, Exit::NotOurs);
        }
        account::account_reply(p, settings, at, connection, &dest, now);
        if reset_queue::is_reset_of(c, p)
            && let Some(verdict) = gate::send_by_header(packet, p, now)
        {
            return exits::leave(packet, Exit::Reply, verdict);
        }
        return exits::pass(packet, Exit::Reply);
    }
    let Some(route) = route::scratch() else { return exits::drop(packet, Exit::DropInternal) };
    let largest = control_block::largest(packet);
    // A packet of the director's own, the real server being itself, is on its way to the client already.
    let own = packet.device() == 0;
    let mut fits = true;
    if !own {
        // SAFETY: as above.
        let cache: *mut NextHop = unsafe { &raw mut (*connection).reply_hop };
        let to = p.destination.widen();
        if !route::cached(cache, now, route) && !route::look_up(packet, cache, A::FAMILY, &to, now, route) {
            return exits::drop(packet, Exit::DropNoRoute);
        }
        if !route.local {
            if p.ttl <= 1 {
                return refuse::time_exceeded::<TcPacket, A>(packet, dest.id, DestId::NONE);
            }
            let mtu = route.hop.mtu as u32;
            fits = match largest {
                0 => gate::fits(packet, p.length, (p.l4() - L3) as u32 + 20, mtu),
                largest => largest <= mtu,
            };
            if !fits && p.df {
                return refuse::too_big::<TcPacket, A>(packet, mtu, dest.id, DestId::NONE);
            }
        }
    }
    account::account_reply(p, settings, at, connection, &dest, now);
    if !nat::apply(packet, p, Side::Source, c.virt, c.virt_port, !own && !route.local) {
        return exits::drop(packet, Exit::DropInternal);
    }
    if (largest != 0 || !fits) && !own && !route.local {
        exits::count(Exit::NatReply);
        return split::split(packet, DestId::NONE, if fits { largest } else { route.hop.mtu as u32 });
    }
    let verdict = match (own, route.local) {
        (true, _) => TcPacket::PASS,
        (false, true) => send::send_local(packet),
        (false, false) => send::send_tc(packet, route),
    };
    exits::leave(packet, Exit::NatReply, verdict)
}

/// Whether a packet that came in has an address of the director's as its source.
#[inline(always)]
fn is_own<A: Family>(packet: TcPacket, p: &Parsed<A>, now: u64) -> bool {
    if packet.device() == 0 {
        return false;
    }
    let Some(route) = route::scratch() else { return false };
    let source = p.source.widen();
    route::route(packet, A::FAMILY, &source, now, route) && route.local
}
