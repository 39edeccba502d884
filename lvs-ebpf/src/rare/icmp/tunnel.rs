//! Errors about the outer packet of a tunnel: the client gets one about its own packet inside.

use crate::packet::parse::Family;
use crate::rare::icmp::{path, read, unknown};
use crate::values::icmp_error::{IcmpError, OFFSETS};
use lvs_common::abi::{DestId, Mode, Settings, tunnel};
use lvs_common::{
    exit::Exit,
    icmp,
    wire::{Icmp, protocol},
};

use crate::{
    config::{self, destination::DestRef},
    egress::refuse::{self, Sender},
    exits,
    packet::{access::Packet, access::TcPacket, tc::Room},
    stats,
    table::find,
    values::parsed::L3,
};

/// Bytes of the packet inside that are needed: an IPv4 header and ports.
const INNER: usize = 24;

/// The program that answers the client whose packet a tunnel to a real server could not carry. Tunnels of another family
/// than what they carry are left out, but for the path's MTU.
#[inline(always)]
pub fn run<A: Family>(packet: TcPacket) -> i32
where
    A::Other: Family,
{
    let Some(report) = read::read::<A>(packet) else { return exits::pass(packet, Exit::NotOurs) };
    let Some(settings) = config::settings() else { return TcPacket::PASS };
    let at = inner(packet, report.about.carried, report.transport());
    // Routers need not quote more than eight bytes after the network header (RFC 792), which is not enough to see the packet inside.
    let is_short = at.is_none_or(|at| packet.at::<[u8; INNER]>(at).is_none());
    if is_short && tunnel::may_carry(report.about.carried, |_| true) && read::is_intact(packet, report) {
        path::learn(packet, report, &report.about.source.widen(), true);
    }
    let Some(at) = at else { return unknown::run(packet, report, settings) };
    let Ok(p) = A::quoted(packet, at) else { return learn_of_other::<A>(packet, report, settings, at) };
    let Some((_, connection)) = find::of_client(&p) else { return unknown::run(packet, report, settings) };
    let (mode, id) = (connection.forward, connection.dest);
    let Some(dest) = DestRef::get(id, settings.epoch) else { return exits::pass(packet, Exit::NotOurs) };
    if mode != Mode::TUNNEL || *dest.address() != report.about.source.widen() {
        return exits::pass(packet, Exit::NotOurs);
    }
    if !read::is_intact(packet, report) {
        return exits::drop(packet, Exit::DropMalformed);
    }
    path::learn(packet, report, dest.address(), false);
    let Some(header) = packet.read::<Icmp>(report.header()) else { return exits::drop(packet, Exit::DropMalformed) };
    let (kind, code, rest) = (header.kind, header.code, header.rest.get());
    let overhead = at.wrapping_sub(report.quote()) as u32;
    let Some(rest) = icmp::rest_of_inner(!A::IS_V4, kind, code, rest, p.df, overhead) else {
        return exits::drop(packet, Exit::DropTooBig);
    };
    let surplus = (at as i32).wrapping_sub(L3 as i32);
    if !packet.adjust_room(surplus.wrapping_neg(), Room::AfterEthernet) {
        return exits::drop(packet, Exit::DropInternal);
    }
    // For IPVS both the packet inside and the client's error count as replies.
    let counts_for = if dest.available() { id } else { DestId::NONE };
    if counts_for.is_some() {
        stats::packet_out(id, report.outer.length.wrapping_sub(surplus as u32));
    }
    refuse::icmp_error::<A>(packet, (kind, code), rest, Sender::vip_for(counts_for))
}

/// An error about a tunnel that carries a packet of the other family: it is passed on, but what it tells of the path's MTU counts.
/// The director answers the next packet that is too big by itself.
#[inline(always)]
fn learn_of_other<A: Family>(packet: TcPacket, report: &IcmpError<A>, settings: &Settings, at: usize) -> i32
where
    A::Other: Family,
{
    if let Ok(p) = A::Other::quoted(packet, at)
        && let Some((_, connection)) = find::of_client(&p)
        && connection.forward == Mode::TUNNEL
        && let Some(dest) = DestRef::get(connection.dest, settings.epoch)
        && dest.family() == A::FAMILY
        && *dest.address() == report.about.source.widen()
        && read::is_intact(packet, report)
    {
        path::learn(packet, report, dest.address(), false);
    }
    exits::pass(packet, Exit::NotOurs)
}

/// Where the packet inside a tunnel's quoted packet begins, whose transport header is at `l4`.
#[inline(always)]
fn inner(packet: TcPacket, carried: u8, l4: usize) -> Option<usize> {
    let start = if carried == protocol::UDP { l4 + 8 } else { l4 };
    let headers = icmp::tunnel_headers(carried, packet.read::<[u8; 2]>(start)?)?;
    Some((l4 + headers) & OFFSETS)
}
