//! Errors about the outer packet of a tunnel: the client gets one about its own packet inside.

use crate::packet::parse::Family;
use crate::rare::icmp::{read, unknown};
use crate::values::icmp_error::OFFSETS;
use lvs_common::abi::Mode;
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
    table::find,
    values::parsed::L3,
};

/// The program that answers the client whose packet a tunnel to a real server could not carry. Tunnels of another family
/// than what they carry are left out.
#[inline(always)]
pub fn run<A: Family>(packet: TcPacket) -> i32 {
    let Some(report) = read::read::<A>(packet) else { return exits::pass(packet, Exit::NotOurs) };
    let Some(settings) = config::settings() else { return TcPacket::PASS };
    let Some(at) = inner(packet, report.about.carried, report.transport()) else {
        return unknown::run(packet, report, settings);
    };
    let Ok(p) = A::quoted(packet, at) else { return exits::pass(packet, Exit::NotOurs) };
    let Some((_, connection)) = find::of_client(&p) else { return unknown::run(packet, report, settings) };
    let (mode, id) = (connection.forward, connection.dest);
    let Some(dest) = DestRef::get(id, settings.epoch) else { return exits::pass(packet, Exit::NotOurs) };
    if mode != Mode::TUNNEL || *dest.address() != report.about.source.widen() {
        return exits::pass(packet, Exit::NotOurs);
    }
    if !read::is_intact(packet, report) {
        return exits::drop(packet, Exit::DropMalformed);
    }
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
    refuse::icmp_error::<A>(packet, (kind, code), rest, Sender::VIP)
}

/// Where the packet inside a tunnel's quoted packet begins, whose transport header is at `l4`.
#[inline(always)]
fn inner(packet: TcPacket, carried: u8, l4: usize) -> Option<usize> {
    let start = if carried == protocol::UDP { l4 + 8 } else { l4 };
    let headers = icmp::tunnel_headers(carried, packet.read::<[u8; 2]>(start)?)?;
    Some((l4 + headers) & OFFSETS)
}
