//! The TC driver: everything that XDP leaves, and all packets of devices without XDP. Each step is a program of its own: see
//! "stack" and "path explosion" in docs/develop/verifier.md.

use crate::table::entry::Entry;
use lvs_common::abi::{DestId, EntryRef};
use lvs_common::byte_order::Be16;
use lvs_common::{
    abi::{AF_INET, Connection, EntryKind, IpAddress, Mode, Settings, settings_flags},
    exit::Exit,
    programs::Program,
    wire::{ethertype, protocol},
};

use crate::{
    config::{self, destination::DestRef, service::ServiceRef, watch},
    egress::{
        gate::{self, Limits, Passage, Way},
        refuse::Sender,
        route, send,
        split::{split, split_tunnelled},
    },
    exits,
    forward::{
        fullnat, live, mode,
        nat::{self, Side},
        tunnel::Outer,
    },
    kernel::clock,
    link,
    packet::{
        access::Packet,
        access::TcPacket,
        control_block::{self, Flag},
        fragment::Fragment,
        handover,
        parse::{Family, parse_transport},
    },
    programs::{ask_previous, jump, receive_ipv6},
    stats,
    table::{account, answer, draft, find, fragments, reset_queue},
    values::parsed::{Parsed, Stray},
};

/// Serves a frame that comes in.
#[inline(always)]
pub fn ingress(packet: TcPacket) -> i32 {
    if packet.tagged() {
        return TcPacket::PASS;
    }
    control_block::clear(packet);
    match family(packet) {
        // Most packets of a host are not ours: to tell that, no tail call is paid.
        ethertype::IPV4 => receive::<u32>(packet),
        ethertype::IPV6 => receive_ipv6(packet),
        _ => TcPacket::PASS,
    }
}

/// Serves what the director itself sends, once. What it forwards was served when it came in.
#[inline(always)]
pub fn egress(packet: TcPacket) -> i32 {
    if packet.device() != 0 || packet.is_served() {
        return TcPacket::PASS;
    }
    control_block::clear(packet);
    by_family(packet)
}

/// Serves a packet that another generation of the data plane hands over, at whichever hook it came. If it `is_returned`, that
/// generation has looked for its connection.
#[inline(always)]
pub fn take_over(packet: TcPacket, is_returned: bool) -> i32 {
    control_block::take_over(packet, is_returned);
    by_family(packet)
}

/// What a packet's link layer says that it is. Without an Ethernet header only the kernel knows.
#[inline(always)]
fn family(packet: TcPacket) -> Be16 {
    if link::HEADER == 0 { packet.ethertype() } else { packet.carried() }
}

#[inline(always)]
fn by_family(packet: TcPacket) -> i32 {
    match family(packet) {
        ethertype::IPV4 => jump::<u32, _>(packet, Program::Receive),
        ethertype::IPV6 => receive_ipv6(packet),
        _ => TcPacket::PASS,
    }
}

/// Parses a packet of family `A`, and leaves it to the stack or to the program that serves it.
#[inline(always)]
pub fn receive<A: Family>(packet: TcPacket) -> i32 {
    let Some(settings) = config::settings() else { return TcPacket::PASS };
    let mut p = match A::parse_network(packet) {
        Ok(p) => p,
        Err(stray) => return stray_packet::<A>(packet, stray),
    };
    let (for_vip, from_server) = watch::watched(p.source, p.destination, settings);
    // A mark can be on any packet.
    let for_vip = for_vip || packet.mark() != 0 && settings.flags & settings_flags::FWMARK != 0;
    let is_icmp = matches!(p.carried, protocol::ICMP | protocol::ICMPV6);
    if !for_vip && !from_server && !is_icmp && !reset_queue::is_waiting::<A>(settings) {
        return exits::pass(packet, Exit::NotOurs);
    }
    if let Err(stray) = parse_transport(packet, &mut p) {
        return stray_packet::<A>(packet, stray);
    }
    if reset_queue::is_carrier(packet, &p, settings) && handover::store(&p) {
        return jump::<A, _>(packet, Program::CarryResets);
    }
    let is_ours = (for_vip || from_server) && settings.flags & settings_flags::ANY != 0 && packet.for_this_host();
    if !is_ours || !handover::store(&p) {
        return exits::pass(packet, Exit::NotOurs);
    }
    if packet.device() == 0 {
        packet.set_served();
    }
    control_block::set_watched(packet, for_vip, from_server);
    jump::<A, _>(packet, Program::Serve)
}

/// Sends a packet that is not parsed as far as its ports to the program that can serve it.
#[inline(always)]
fn stray_packet<A: IpAddress>(packet: TcPacket, stray: Stray) -> i32 {
    match stray {
        Stray::Icmp => jump::<A, _>(packet, Program::Icmp),
        Stray::Fragment => jump::<A, _>(packet, Program::Assemble),
        Stray::NotOurs | Stray::Complicated => exits::pass(packet, Exit::NotOurs),
    }
}

/// Finds the connection of a packet that is for a watched virtual address, from a watched real server, or both.
#[inline(always)]
pub fn serve<A: Family>(packet: TcPacket) -> i32 {
    let (Some(p), Some(settings)) = (handover::load::<A>(), config::settings()) else { return TcPacket::PASS };
    let now = clock::jiffies();
    let for_vip = control_block::has(packet, Flag::ForVip);
    if for_vip && let Some((at, connection)) = find::of_client(p) {
        let c = connection.get();
        if find::is_bypass(c) && !find::expired(c, now) {
            return jump::<A, _>(packet, Program::Bypass);
        }
        return match live::destination(packet, p, c, settings, now) {
            Some(_) if c.forward == Mode::FULLNAT => fullnat_program::<A>(packet, at, Program::FullNat),
            Some(dest) => request(packet, p, settings, at, connection, &dest, now),
            None => jump::<A, _>(packet, Program::Schedule),
        };
    }
    if control_block::has(packet, Flag::FromRealServer)
        && let Some((at, connection)) = find::of_server(p)
    {
        if connection.forward == Mode::FULLNAT {
            return fullnat_program::<A>(packet, at, Program::FullNatReply);
        }
        return jump::<A, _>(packet, Program::Reply);
    }
    if for_vip || settings.sysctls.nat_icmp_send != 0 {
        return jump::<A, _>(packet, Program::Schedule);
    }
    ask_previous(packet);
    exits::pass(packet, Exit::NotOurs)
}

/// Goes on with a program of FullNAT for a packet of connection `at`.
#[inline(always)]
fn fullnat_program<A: IpAddress>(packet: TcPacket, at: u32, program: Program) -> i32 {
    if !fullnat::handover::store(at) {
        return exits::drop(packet, Exit::DropInternal);
    }
    jump::<A, _>(packet, program)
}

/// Forwards a packet that one-packet scheduling gave a destination: its connection is this CPU's draft.
#[inline(always)]
pub fn one_packet<A: Family>(packet: TcPacket) -> i32 {
    let (Some(p), Some(settings)) = (handover::load::<A>(), config::settings()) else { return TcPacket::PASS };
    let now = clock::jiffies();
    let draft = match p.is_later_fragment() {
        true => draft_again(packet, p, settings, now),
        false => draft::place::<A>(),
    };
    let Some(draft) = draft else { return exits::drop(packet, Exit::DropNoDestination) };
    let Some(dest) = DestRef::get(draft.dest, settings.epoch) else {
        return exits::drop(packet, Exit::DropNoDestination);
    };
    if !p.is_later_fragment() {
        answer::expect(draft, settings, now);
    }
    if control_block::has(packet, Flag::Fragment)
        && let Some(fragment) = Fragment::read::<A>(packet)
        && let Some(known) = fragments::find(&fragment.key)
    {
        known.set_one_packet_destination(dest.id);
    }
    request(packet, p, settings, u32::MAX, draft, &dest, now)
}

/// The connection of a later fragment of a one-packet service's packet: it goes where the first one went.
#[inline(always)]
fn draft_again<A: Family>(packet: TcPacket, p: &Parsed<A>, settings: &Settings, now: u64) -> Option<Entry<A>> {
    let dest = DestRef::get(control_block::destination(packet), settings.epoch)?;
    let service = ServiceRef::get(dest.service(), settings.epoch)?;
    draft::write(p, &service, Some(&dest), EntryRef::NONE, now)
}

/// Forwards a client's packet of a live connection to its available destination.
#[inline(always)]
fn request<A: Family>(
    packet: TcPacket,
    p: &Parsed<A>,
    settings: &Settings,
    at: u32,
    connection: Entry<A>,
    dest: &DestRef,
    now: u64,
) -> i32 {
    account::account_request(packet, p, settings, at, connection, dest, now);
    match connection.mode() {
        Mode::LOCAL => exits::pass(packet, Exit::Local),
        Mode::TUNNEL => {
            control_block::set_destination(packet, dest.id);
            if control_block::has(packet, Flag::Fragment) {
                // It has been counted as a part of a packet, and is wrapped as it is.
                handover::set_length::<A>(control_block::largest(packet));
            }
            jump::<A, _>(packet, Program::Tunnel)
        }
        _ => send::<A, false>(packet, p, settings, Some(connection.get()), dest, now),
    }
}

/// Sends a client's packet through its tunnel; [`request`] has counted it.
#[inline(always)]
pub fn tunnel<A: Family>(packet: TcPacket) -> i32 {
    let (Some(p), Some(settings)) = (handover::load::<A>(), config::settings()) else { return TcPacket::DROP };
    let Some(dest) = DestRef::get(control_block::destination(packet), settings.epoch) else {
        return exits::drop(packet, Exit::DropNoDestination);
    };
    send::<A, true>(packet, p, settings, None, &dest, clock::jiffies())
}

/// Rewrites and sends a client's packet, through a tunnel or not.
#[inline(always)]
fn send<A: Family, const IS_TUNNEL: bool>(
    packet: TcPacket,
    p: &Parsed<A>,
    settings: &Settings,
    c: Option<&Connection<A>>,
    dest: &DestRef,
    now: u64,
) -> i32 {
    let forward = c.map_or(Mode::TUNNEL, |c| c.forward);
    let translated = c.filter(|_| forward == Mode::MASQ);
    let (to, family, source) = (dest.address(), dest.family(), dest.source());
    let cache = dest.hop();
    // Without path MTU discovery tunnels may be fragmented. An IPv6 packet says nothing about fragments of an IPv4 one.
    let df = p.df && !(IS_TUNNEL && settings.sysctls.pmtu_disc == 0);
    let outer = || Outer::new(dest.config(), family, source, to, df && A::IS_V4);
    let overhead = if IS_TUNNEL { outer().overhead() } else { 0 };
    // Errors about packets that are not translated count as the connection's own, as they do for IPVS.
    let counts_for = if forward == Mode::MASQ { DestId::NONE } else { dest.id };
    let passage = Passage {
        server: Some(dest),
        is_direct: forward == Mode::ROUTE,
        ..Passage::<A>::new(cache, family, to, Some(Sender::vip_for(counts_for)))
    };
    let limits = |mtu| Limits::new(mtu, overhead, !df && A::IS_V4);
    route::with(
        packet,
        #[inline(always)]
        |route| {
            let way = match gate::pass(packet, p, &passage, limits, now, route) {
                Ok(way) => way,
                Err(verdict) => return verdict,
            };
            if way == Way::Local {
                if forward == Mode::MASQ && !mode::rewrite(packet, p, c, false, outer, false, true) {
                    return exits::drop(packet, Exit::DropInternal);
                }
                return exits::pass(packet, Exit::Local);
            }
            if way == Way::Stack {
                if !IS_TUNNEL && translated.is_none() {
                    return exits::drop(packet, Exit::DropStackRoute);
                }
                if !mode::rewrite(packet, p, translated, IS_TUNNEL, outer, false, true) {
                    return exits::drop(packet, Exit::DropInternal);
                }
                return send::hand_over(packet, IS_TUNNEL);
            }
            if IS_TUNNEL && route::has_source(route) {
                dest.set_source(route::copy(&route.source));
            }
            let lower = packet.device() != 0;
            if !mode::rewrite(packet, p, translated, IS_TUNNEL, outer, lower, way == Way::Whole) {
                return exits::drop(packet, Exit::DropInternal);
            }
            match way {
                Way::Fragments(most) => {
                    let is_v6_in_v6 = IS_TUNNEL && !A::IS_V4 && family != AF_INET;
                    split_tunnelled(packet, dest.id, most, if is_v6_in_v6 { overhead } else { 0 })
                }
                _ => exits::leave(packet, mode::exit(forward), send::send_tc(packet, route)),
            }
        },
    )
}

/// Serves a real server's packet of a connection.
#[inline(always)]
pub fn reply<A: Family>(packet: TcPacket) -> i32 {
    let (Some(p), Some(settings)) = (handover::load::<A>(), config::settings()) else { return TcPacket::PASS };
    let Some((at, connection)) = find::of_server(p) else { return TcPacket::PASS };
    let c = connection.get();
    let now = clock::jiffies();
    // An answer to one-packet scheduling counts for no destination, and only remembers one.
    let is_answer = c.kind == EntryKind::ANSWER;
    let id = if is_answer { DestId::new(c.engine as u32) } else { c.dest };
    let Some(dest) = DestRef::get(id, settings.epoch) else { return TcPacket::PASS };
    if c.forward != Mode::MASQ {
        return untranslated_reply(packet, p, settings, at, connection, &dest, now);
    }
    // A packet of the director's own, the real server being itself, is on its way to the client already.
    let is_own = packet.device() == 0;
    let cache = connection.reply_hop();
    let to = p.destination.widen();
    let passage = Passage { from: Some(&c.virt), ..Passage::new(cache, A::FAMILY, &to, Some(Sender::toward(dest.id))) };
    route::with(
        packet,
        #[inline(always)]
        |route| {
            let mut way = Way::Local;
            if !is_own {
                match gate::pass(packet, p, &passage, |mtu| Limits::new(mtu, 0, !p.df), now, route) {
                    Ok(passed) => way = passed,
                    Err(verdict) => return verdict,
                }
            }
            if is_answer {
                connection.touch(now);
            } else {
                account::account_reply(packet, p, settings, at, connection, &dest, now);
            }
            if !nat::apply(packet, p, Side::Source, c.virt, c.virt_port, way.is_own()) {
                return exits::drop(packet, Exit::DropInternal);
            }
            let verdict = match way {
                Way::Fragments(most) => {
                    stats::exit(Exit::NatReply);
                    return split(packet, DestId::NONE, most);
                }
                Way::Local if is_own => TcPacket::PASS,
                Way::Local | Way::Stack => send::send_local(packet),
                Way::Whole => send::send_tc(packet, route),
            };
            exits::leave(packet, Exit::NatReply, verdict)
        },
    )
}

/// A reply that the director only routes: DR and tunnels.
#[inline(always)]
fn untranslated_reply<A: Family>(
    packet: TcPacket,
    p: &Parsed<A>,
    settings: &Settings,
    at: u32,
    connection: Entry<A>,
    dest: &DestRef,
    now: u64,
) -> i32 {
    let is_reset = reset_queue::is_reset_of(connection.get(), p);
    if A::IS_V4 && !is_reset && has_own_source(packet, p, now) {
        // From an address of the director's own: the stack takes it for a martian.
        return exits::pass(packet, Exit::NotOurs);
    }
    if p.ttl <= 1 && packet.device() != 0 && !route::is_local(packet, A::FAMILY, &p.destination.widen(), now) {
        // The stack answers it, and IPVS does not see it.
        return exits::pass(packet, Exit::NotOurs);
    }
    account::account_reply(packet, p, settings, at, connection, dest, now);
    if is_reset && let Some(verdict) = send_as_addressed(packet, p, now) {
        return exits::leave(packet, Exit::Reply, verdict);
    }
    exits::pass(packet, Exit::Reply)
}

/// Whether a packet that came in has an address of the director's own as its source.
#[inline(always)]
fn has_own_source<A: IpAddress>(packet: TcPacket, p: &Parsed<A>, now: u64) -> bool {
    packet.device() != 0 && route::is_local(packet, A::FAMILY, &p.source.widen(), now)
}

/// Sends a packet to where its header says. Its source is a virtual address, so the stack would drop it.
#[inline(always)]
fn send_as_addressed<A: IpAddress>(packet: TcPacket, p: &Parsed<A>, now: u64) -> Option<i32> {
    let sent = route::lend(
        #[inline(always)]
        |route| {
            route::route(packet, A::FAMILY, &p.destination.widen(), now, route).ok()?;
            Some(send::send_own(packet, route))
        },
    );
    sent.flatten()
}
