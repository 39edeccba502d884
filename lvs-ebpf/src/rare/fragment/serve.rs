//! A fragment comes in: it waits, is the stack's, or is forwarded.

use lvs_common::{
    abi::{Connection, EntryKind, IpAddress, Mode, Settings, settings_flags},
    exit::Exit,
    fragments::JOINED,
    icmp,
    programs::Program,
    verifier::opaque,
    wire::protocol,
};

use crate::{
    config::{self, watch},
    exits,
    packet::{
        access::{Packet, TcPacket},
        control_block::{self, Flag},
        fragment::Fragment,
        handover,
        parse::Family,
    },
    programs::{ask_previous, jump},
    select::{admit, find_service, mark},
    table::{
        find,
        fragments::{self, Kept, Known, State},
    },
    values::parsed::{OFFSETS, Parsed, Stray},
};

/// Serves a fragment.
#[inline(always)]
pub fn run<A: Family>(packet: TcPacket) -> i32 {
    if packet.is_finished() {
        return jump::<A, _>(packet, Program::SendFragment);
    }
    let Some(fragment) = Fragment::read::<A>(packet) else { return exits::pass(packet, Exit::NotOurs) };
    let Some(settings) = config::settings() else { return TcPacket::PASS };
    let (source, destination) = (A::narrow(fragment.key.source), A::narrow(fragment.key.destination));
    let (for_vip, from_server) = watch::watched(source, destination, settings);
    let for_vip = for_vip || packet.mark() != 0 && settings.flags & settings_flags::FWMARK != 0;
    let is_watched = (for_vip || from_server) && settings.flags & settings_flags::ANY != 0 && packet.for_this_host();
    if !is_watched || !is_balanced(fragment.key.protocol as u8) {
        return exits::pass(packet, Exit::NotOurs);
    }
    if !fragment.is_sound(packet) {
        return exits::drop(packet, Exit::DropFragmentMalformed);
    }
    let Some(known) = fragments::open(&fragment.key) else { return exits::drop(packet, Exit::DropInternal) };
    if let Some(exit) = known.refusal() {
        return exits::drop(packet, exit);
    }
    control_block::set_watched(packet, for_vip, from_server);
    if known.is(State::Forwarded) {
        return forward::<A>(packet, &fragment, known);
    }
    let is_first = fragment.part.offset == 0;
    if known.is(State::Passed) || is_first && !concerns_director::<A>(packet, &fragment, settings) {
        ask_previous(packet);
        known.set(State::Passed);
        return pass::<A>(packet, &fragment, known);
    }
    match known.hold(packet, &fragment) {
        Kept::Complete => complete::<A>(packet, known),
        Kept::Refused(exit) => exits::drop(packet, exit),
        // The first fragment may have come on another CPU meanwhile.
        Kept::Waiting if known.is(State::Passed) => jump::<A, _>(packet, Program::Release),
        Kept::Waiting => exits::drop(packet, Exit::Held),
    }
}

/// Whether fragments of this protocol can concern a service or a connection.
#[inline(always)]
fn is_balanced(carried: u8) -> bool {
    matches!(
        carried,
        protocol::TCP
            | protocol::UDP
            | protocol::SCTP
            | protocol::AH
            | protocol::ESP
            | protocol::ICMP
            | protocol::ICMPV6
    )
}

/// Whether a packet may concern a service or a connection, by its first fragment.
#[inline(always)]
fn concerns_director<A: Family>(packet: TcPacket, fragment: &Fragment, settings: &Settings) -> bool {
    let p = match A::first_fragment(packet) {
        Ok(p) => p,
        Err(Stray::Icmp) => return is_icmp_error::<A>(packet, fragment),
        // The first fragment is so short that the joined packet has to tell.
        Err(_) => return true,
    };
    let is_for_service = || {
        find_service::find(&p, mark::of(packet, &p, settings), settings)
            .is_some_and(|service| !admit::is_routed_on(packet, &p, &service, settings))
    };
    control_block::has(packet, Flag::ForVip) && (find::of_client(&p).is_some() || is_for_service())
        || control_block::has(packet, Flag::FromRealServer) && find::of_server(&p).is_some()
}

/// Whether an ICMP message is an error, which may be about a connection.
#[inline(always)]
fn is_icmp_error<A: IpAddress>(packet: TcPacket, fragment: &Fragment) -> bool {
    let at = opaque(fragment.at) as usize & OFFSETS;
    packet.read::<[u8; 2]>(at).is_some_and(|[kind, _]| icmp::is_error(!A::IS_V4, kind))
}

/// Leaves a packet's fragment to the stack, and those that waited for it.
#[inline(always)]
fn pass<A: IpAddress>(packet: TcPacket, fragment: &Fragment, known: Known) -> i32 {
    // What the director sends itself has its first fragment first.
    if known.has_waiting() && packet.device() != 0 {
        return match known.hold(packet, fragment) {
            Kept::Refused(exit) => exits::drop(packet, exit),
            Kept::Waiting | Kept::Complete => jump::<A, _>(packet, Program::Release),
        };
    }
    if known.count(&fragment.part) {
        fragments::forget(&fragment.key);
    }
    exits::pass(packet, Exit::NotOurs)
}

/// Goes on with a packet whose fragments have all come.
#[inline(always)]
fn complete<A: IpAddress>(packet: TcPacket, known: Known) -> i32 {
    if known.total() <= JOINED {
        return jump::<A, _>(packet, Program::Join);
    }
    if packet.device() == 0 {
        // It cannot come in again.
        return exits::drop(packet, known.refuse(State::Long));
    }
    known.set(State::Forwarded);
    jump::<A, _>(packet, Program::Release)
}

/// Forwards a fragment by itself.
#[inline(always)]
fn forward<A: Family>(packet: TcPacket, fragment: &Fragment, known: Known) -> i32 {
    let p = if fragment.part.offset == 0 {
        let Ok(mut p) = A::first_fragment(packet) else { return exits::drop(packet, known.refuse(State::Long)) };
        if must_be_joined(packet, &p) {
            return exits::drop(packet, known.refuse(State::Long));
        }
        known.set_ports(p.source_port, p.destination_port);
        if !A::IS_V4 {
            // As IPVS counts packets: without fragment headers.
            p.length = p.length.wrapping_sub(8);
        }
        p
    } else {
        fragment.later(known.ports())
    };
    // The first one passes again once it has opened a connection.
    let is_again = control_block::has(packet, Flag::Fragment);
    if !is_again && known.count(&fragment.part) {
        fragments::forget(&fragment.key);
    }
    control_block::set(packet, Flag::Fragment);
    if fragment.part.offset != 0 {
        control_block::set(packet, Flag::LaterFragment);
    }
    control_block::set_largest(packet, fragment.size);
    if !handover::store(&p) {
        return exits::drop(packet, Exit::DropInternal);
    }
    let dest = known.one_packet_destination();
    if dest.is_some() && p.is_later_fragment() {
        // There is no connection that would tell.
        control_block::set_destination(packet, dest);
        return jump::<A, _>(packet, Program::OnePacket);
    }
    jump::<A, _>(packet, Program::Serve)
}

/// Whether only the whole packet can be served: SCTP's checksum covers the ports, and a packet changes its family as a whole.
#[inline(always)]
fn must_be_joined<A: IpAddress>(packet: TcPacket, p: &Parsed<A>) -> bool {
    let is_sctp = p.carried == protocol::SCTP;
    let must = |c: &Connection<A>| {
        c.kind == EntryKind::CROSSED
            || c.is_crossed()
            || is_sctp && (c.forward == Mode::FULLNAT || c.forward == Mode::MASQ && c.real_port != c.virt_port)
    };
    if control_block::has(packet, Flag::ForVip)
        && let Some((_, connection)) = find::of_client(p)
    {
        return must(connection.get());
    }
    control_block::has(packet, Flag::FromRealServer) && find::of_server(p).is_some_and(|(_, c)| must(c.get()))
}
