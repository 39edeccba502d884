//! The XDP driver: a packet of a live connection, from the frame to the next hop, all in one program. What XDP cannot finish
//! goes to TC unchanged and uncounted.

use crate::table::entry::Entry;
use lvs_common::byte_order::Be16;
use lvs_common::{
    abi::{Address, Mode, Settings, settings_flags},
    exit::Exit,
    programs::Program,
    wire::{Ethernet, ethertype},
};

use crate::{
    config::{self, destination::DestRef, watch},
    egress::{
        gate::{self, Passage},
        send,
    },
    exits,
    forward::{
        fullnat, live, mode,
        nat::{self, Side},
        tunnel::Outer,
    },
    kernel::clock,
    packet::{access::Packet, access::XdpPacket, handover, parse::Family},
    programs::{jump, receive_ipv6},
    table::{account, find},
    values::parsed::Parsed,
};

/// Where it stands what a frame with a VLAN's tag carries.
const CARRIED_WITH_TAG: usize = 16;

/// Serves a frame.
#[inline(always)]
pub fn frame(packet: XdpPacket) -> i32 {
    match packet.read::<Ethernet>(0).map_or(Be16::ZERO, |h| h.ethertype) {
        ethertype::IPV4 => receive::<u32>(packet),
        ethertype::IPV6 => receive_ipv6(packet),
        ethertype::VLAN => receive_tagged(packet),
        _ => XdpPacket::PASS,
    }
}

/// Serves a frame with a VLAN's tag, if the programs for such frames are loaded.
#[inline(always)]
fn receive_tagged(packet: XdpPacket) -> i32 {
    match packet.read::<Be16>(CARRIED_WITH_TAG) {
        Some(ethertype::IPV4) => packet.tail_call(Program::Tagged.slot(true)),
        Some(ethertype::IPV6) => packet.tail_call(Program::Tagged.slot(false)),
        _ => {}
    }
    XdpPacket::PASS
}

/// Serves a packet of family `A`.
#[inline(always)]
pub fn receive<A: Family>(packet: XdpPacket) -> i32 {
    receive_by::<A, false>(packet, || packet.for_this_host())
}

/// The same. `TAGS`: in the program for frames with VLANs' tags, which jumps to no other.
#[inline(always)]
pub fn receive_by<A: Family, const TAGS: bool>(packet: XdpPacket, is_for_this_host: impl FnOnce() -> bool) -> i32 {
    let Some(p) = A::parse_fast(packet) else { return XdpPacket::PASS };
    let Some(settings) = config::settings() else { return XdpPacket::PASS };
    let (for_vip, from_server) = watch::watched(p.source, p.destination, settings);
    if !(for_vip || from_server) || settings.flags & settings_flags::ANY == 0 || !is_for_this_host() {
        return XdpPacket::PASS;
    }
    serve::<A, TAGS>(packet, &p, settings, for_vip, from_server)
}

/// Serves a packet that is for a watched virtual address, from a watched real server, or both.
#[inline(always)]
fn serve<A: Family, const TAGS: bool>(
    packet: XdpPacket,
    p: &Parsed<A>,
    settings: &Settings,
    for_vip: bool,
    from_server: bool,
) -> i32 {
    let now = clock::jiffies();
    if for_vip && let Some((at, connection)) = find::of_client(p) {
        let c = connection.get();
        return match live::destination(packet, p, c, settings, now) {
            Some(_) if c.forward == Mode::FULLNAT => fullnat_program::<A, TAGS>(packet, p, at, Program::FullNat),
            Some(dest) => request::<A, TAGS>(packet, p, settings, at, connection, &dest, now),
            None => schedule::<A, TAGS>(packet, p),
        };
    }
    if from_server && let Some((at, connection)) = find::of_server(p) {
        if connection.forward == Mode::FULLNAT {
            return fullnat_program::<A, TAGS>(packet, p, at, Program::FullNatReply);
        }
        return reply::<A, TAGS>(packet, p, settings, at, connection, now);
    }
    // What no service is for is TC's to count or to answer.
    if for_vip && watch::may_be_served(p.destination, p.destination_port, p.protocol, settings) {
        return schedule::<A, TAGS>(packet, p);
    }
    XdpPacket::PASS
}

/// Goes on with a program of FullNAT for a packet of connection `at`.
#[inline(always)]
fn fullnat_program<A: Family, const TAGS: bool>(packet: XdpPacket, p: &Parsed<A>, at: u32, program: Program) -> i32 {
    if !handover::store(p) || !fullnat::handover::store(at) {
        return XdpPacket::PASS;
    }
    match program {
        Program::FullNat if TAGS => fullnat::xdp::request_by::<A, true>(packet),
        _ if TAGS => fullnat::xdp::reply_by::<A, true>(packet),
        _ => jump::<A, _>(packet, program),
    }
}

/// Goes on with the program that schedules.
#[inline(always)]
fn schedule<A: Family, const TAGS: bool>(packet: XdpPacket, p: &Parsed<A>) -> i32 {
    if TAGS || !handover::store(p) {
        return XdpPacket::PASS;
    }
    jump::<A, _>(packet, Program::Schedule)
}

/// Forwards a client's packet of a live connection to its available destination.
#[inline(always)]
fn request<A: Family, const TAGS: bool>(
    packet: XdpPacket,
    p: &Parsed<A>,
    settings: &Settings,
    at: u32,
    connection: Entry<A>,
    dest: &DestRef,
    now: u64,
) -> i32 {
    let (c, to, family, source) = (connection.get(), dest.address(), dest.family(), dest.source());
    let cache = dest.hop();
    let forward = connection.mode();
    let df = p.df && A::IS_V4 && settings.sysctls.pmtu_disc != 0;
    let outer = || Outer::new(dest.config(), family, source, to, df);
    let (possible, overhead) = match forward {
        Mode::MASQ => (nat::possible(packet, p, c.real_port != p.destination_port), 0),
        Mode::ROUTE => (true, 0),
        // TC learns the outer header's source from the route, where there was none when the destination was added.
        Mode::TUNNEL => (!outer().summed() && has_source(source), outer().overhead()),
        _ => (false, 0),
    };
    if !possible {
        return XdpPacket::PASS;
    }
    let passage = Passage::new(cache, family, to, None);
    let Some(hop) = gate::pass_fast::<A, TAGS>(packet, p, &passage, overhead, now) else {
        return gate::leave_fast::<A, TAGS>(packet, cache);
    };
    account::account_request(packet, p, settings, at, connection, dest, now);
    // See "path explosion" in docs/develop/verifier.md: mode and tunnel are read again.
    let forward = connection.mode();
    let translated = Some(c).filter(|_| forward == Mode::MASQ);
    if !mode::rewrite(packet, p, translated, forward == Mode::TUNNEL, outer, true, true) {
        return exits::drop(packet, Exit::DropInternal);
    }
    exits::leave(packet, mode::exit(forward), send::send_xdp::<TAGS>(packet, &hop))
}

/// Whether an address is known.
#[inline(always)]
fn has_source(source: &Address) -> bool {
    let [a, b, c, d] = source.0;
    a | b | c | d != 0
}

/// Forwards a real server's packet of a NAT connection to the client.
#[inline(always)]
fn reply<A: Family, const TAGS: bool>(
    packet: XdpPacket,
    p: &Parsed<A>,
    settings: &Settings,
    at: u32,
    connection: Entry<A>,
    now: u64,
) -> i32 {
    let c = connection.get();
    if c.forward != Mode::MASQ || !nat::possible(packet, p, c.virt_port != p.source_port) {
        return XdpPacket::PASS;
    }
    let Some(dest) = DestRef::get(c.dest, settings.epoch) else { return XdpPacket::PASS };
    let cache = connection.reply_hop();
    let to = p.destination.widen();
    let passage = Passage { from: Some(&c.virt), ..Passage::new(cache, A::FAMILY, &to, None) };
    let Some(hop) = gate::pass_fast::<A, TAGS>(packet, p, &passage, 0, now) else {
        return gate::leave_fast::<A, TAGS>(packet, cache);
    };
    account::account_reply(packet, p, settings, at, connection, &dest, now);
    if !nat::apply(packet, p, Side::Source, c.virt, c.virt_port, true) {
        return exits::drop(packet, Exit::DropInternal);
    }
    exits::leave(packet, Exit::NatReply, send::send_xdp::<TAGS>(packet, &hop))
}
