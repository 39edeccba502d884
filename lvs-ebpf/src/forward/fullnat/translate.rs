//! What FullNAT changes in a packet: addresses and ports of both sides, checksums updated incrementally.

use lvs_common::byte_order::Be16;
use lvs_common::{
    abi::{Connection, IpAddress},
    checksum,
    wire::{Ipv4, Ipv6, protocol},
};

use crate::packet::offsets::{TCP_CHECK, UDP_CHECK};
use crate::{
    forward::nat,
    packet::access::Packet,
    values::parsed::{L3, Parsed},
};

/// The new ends of a packet: address and port.
pub struct Ends<A> {
    pub source: (A, Be16),
    pub destination: (A, Be16),
}

impl<A: IpAddress> Ends<A> {
    /// The ends of a connection's packets to its real server.
    #[inline(always)]
    pub fn to_server(c: &Connection<A>) -> Self {
        Ends { source: (c.local, c.local_port), destination: (c.real, c.real_port) }
    }

    /// The ends of a connection's packets to its client.
    #[inline(always)]
    pub fn to_client(c: &Connection<A>) -> Self {
        Ends { source: (c.virt, c.virt_port), destination: (c.client, c.client_port) }
    }
}

/// Replaces addresses and ports and, with `lower_ttl`, takes one from the TTL. Pointers into the packet are void after it.
#[inline(always)]
pub fn apply<P: Packet, A: IpAddress>(packet: P, p: &Parsed<A>, ends: &Ends<A>, lower_ttl: bool) -> bool {
    let (source, source_port) = ends.source;
    let (destination, destination_port) = ends.destination;
    let addresses = nat::address_difference(p.source, source) + nat::address_difference(p.destination, destination);
    let ports =
        checksum::difference(p.source_port, source_port) + checksum::difference(p.destination_port, destination_port);
    let done = match p.carried {
        protocol::TCP => packet.update_l4(p.l4() + TCP_CHECK, addresses, ports, false),
        protocol::UDP if P::SUMS_PAYLOAD && nat::is_unsummed(packet, p.l4()) => {
            crate::packet::checksum::fill_udp(packet, p, addresses + ports)
        }
        protocol::UDP => packet.update_l4(p.l4() + UDP_CHECK, addresses, ports, true),
        protocol::SCTP => !P::SUMS_PAYLOAD || nat::update_sctp(packet, p, source_port, destination_port),
        _ => true,
    };
    if !done {
        return false;
    }
    if p.has_ports() && !packet.write(p.l4(), [source_port, destination_port]) {
        return false;
    }
    replace(packet, source, destination, addresses, lower_ttl)
}

/// Writes the new addresses and the TTL into the network header.
#[inline(always)]
fn replace<P: Packet, A: IpAddress>(packet: P, source: A, destination: A, change: u64, lower_ttl: bool) -> bool {
    let (source, destination) = (source.widen().0, destination.widen().0);
    if A::IS_V4 {
        packet.update::<Ipv4>(
            L3,
            #[inline(always)]
            |h| {
                let (old, mut change) = (h.ttl, change);
                if lower_ttl {
                    let new = old.wrapping_sub(1);
                    change += checksum::difference(old as u32, new as u32);
                    h.ttl = new;
                }
                h.source = source[0];
                h.destination = destination[0];
                h.check = checksum::update(h.check, change);
            },
        )
    } else {
        packet.update::<Ipv6>(
            L3,
            #[inline(always)]
            |h| {
                h.source = source;
                h.destination = destination;
                if lower_ttl {
                    h.hop_limit = h.hop_limit.wrapping_sub(1);
                }
            },
        )
    }
}
