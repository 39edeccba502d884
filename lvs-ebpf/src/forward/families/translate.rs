//! A packet becomes one of the other family: its network header is written anew, its transport checksum updated.

use crate::config::destination::DestRef;
use lvs_common::abi::Connection;
use lvs_common::byte_order::Be16;
use lvs_common::{
    abi::{Address, IpAddress},
    checksum,
    cross::{self, Outline},
    wire::protocol,
};

use crate::maps::LOCALS;
use crate::packet::offsets::{TCP_CHECK, UDP_CHECK};
use crate::{
    forward::{fullnat::translate::Ends, nat},
    kernel::random,
    packet::{access::Packet, access::TcPacket, checksum as sums, jumbo},
    values::parsed::{L3, Parsed},
};

/// Makes a packet of family `A` one of family `B` between these ends and, with `lower_ttl`, takes one from the TTL. The
/// packet has a network header without options, and a transport header of its own. Pointers into it are void after it.
#[inline(always)]
pub fn apply<A: IpAddress>(packet: TcPacket, p: &Parsed<A>, ends: &Ends<Address>, lower_ttl: bool) -> bool {
    let ((source, source_port), (destination, destination_port)) = (ends.source, ends.destination);
    // The words that an IPv4 address has not add nothing.
    let addresses = nat::address_difference(p.source.widen().0, source.0)
        + nat::address_difference(p.destination.widen().0, destination.0);
    let ports =
        checksum::difference(p.source_port, source_port) + checksum::difference(p.destination_port, destination_port);
    // What IPv4 may do without, IPv6 may not (RFC 8200, section 8.1).
    let is_filled =
        p.carried == protocol::UDP && nat::is_unsummed(packet, p.l4()) && sums::fill_udp(packet, p, addresses + ports);
    if jumbo::is_jumbo(p) && !jumbo::remove(packet) || !packet.change_family(A::IS_V4) {
        return false;
    }
    let l4 = L3 + <A::Other as IpAddress>::HEADER;
    let done = match p.carried {
        protocol::TCP => packet.update_l4(l4 + TCP_CHECK, addresses, ports, false),
        protocol::UDP => is_filled || packet.update_l4(l4 + UDP_CHECK, addresses, ports, true),
        protocol::SCTP => nat::update_sctp(packet, &p.crossed::<A::Other>(), source_port, destination_port),
        _ => true,
    };
    if !done {
        return false;
    }
    if p.has_ports() && !packet.write(l4, [source_port, destination_port]) {
        return false;
    }
    let ttl = p.ttl.wrapping_sub(lower_ttl as u8);
    let outline =
        Outline { tos: p.tos, ttl, protocol: p.carried, payload: p.length.wrapping_sub((p.l4() - L3) as u32) };
    write::<A::Other>(packet, L3, &outline, &source, &destination)
}

/// Writes a network header of family `B` at `at`.
#[inline(always)]
pub fn write<B: IpAddress>(
    packet: TcPacket,
    at: usize,
    outline: &Outline,
    source: &Address,
    destination: &Address,
) -> bool {
    if B::IS_V4 {
        let id = Be16::from_word(random::word() as u16);
        packet.store(at, &cross::header4(outline, source.0[0], destination.0[0], id))
    } else {
        packet.store(at, &cross::header6(outline, source.0, destination.0))
    }
}

/// The ends of a connection's packets to its real server.
#[inline(always)]
pub fn ends<A>(c: &Connection<A>, dest: &DestRef) -> Option<Ends<Address>> {
    let local = LOCALS.get(c.local_id)?;
    let real = *dest.address();
    Some(Ends { source: (local.address, c.local_port), destination: (real, c.real_port) })
}
