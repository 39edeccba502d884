//! NAT: one address and port of the packet are replaced, checksums updated incrementally.

use crate::packet::offsets::TCP_CHECK;
use crate::packet::offsets::UDP_CHECK;
use lvs_common::byte_order::Be16;
use lvs_common::{
    abi::{Address, IpAddress},
    checksum,
    wire::{Ipv4, Ipv6, Sctp, protocol},
};

use crate::{
    kernel::wide,
    packet::access::Packet,
    values::parsed::{L3, Parsed},
};

/// Which side of the packet is replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Source,
    Destination,
}

/// What replacing an address adds to a sum.
#[inline(always)]
pub fn address_difference<A: IpAddress>(old: A, new: A) -> u64 {
    let (Address(old), Address(new)) = (old.widen(), new.widen());
    let first = checksum::difference(old[0], new[0]);
    if A::IS_V4 {
        return first;
    }
    first
        + checksum::difference(old[1], new[1])
        + checksum::difference(old[2], new[2])
        + checksum::difference(old[3], new[3])
}

/// Whether [`apply`] can do it in this tier: what needs the whole payload, only TC can.
#[inline(always)]
pub fn possible<P: Packet, A>(packet: P, p: &Parsed<A>, port_changes: bool) -> bool {
    match p.carried {
        // Leaves with a checksum, as from IPVS: there is none to update.
        protocol::UDP => P::SUMS_PAYLOAD || packet.read::<u16>(p.l4() + UDP_CHECK).is_some_and(|check| check != 0),
        protocol::SCTP => P::SUMS_PAYLOAD || !port_changes,
        _ => true,
    }
}

/// Replaces address and port of one side and, with `lower_ttl`, takes one from the TTL. Pointers into the packet are
/// void after it.
#[inline(always)]
pub fn apply<P: Packet, A: IpAddress>(
    packet: P,
    p: &Parsed<A>,
    side: Side,
    address: A,
    port: Be16,
    lower_ttl: bool,
) -> bool {
    let (old_address, old_port) = match side {
        Side::Source => (p.source, p.source_port),
        Side::Destination => (p.destination, p.destination_port),
    };
    let addresses = address_difference(old_address, address);
    // Compared as words: `==` of the type costs XDP more instructions.
    let ports = if old_port.word() == port.word() { 0 } else { checksum::difference(old_port, port) };
    let done = match p.carried {
        protocol::TCP => packet.update_l4(p.l4() + TCP_CHECK, addresses, ports, false),
        protocol::UDP => {
            if P::SUMS_PAYLOAD && is_unsummed(packet, p.l4()) {
                crate::packet::checksum::fill_udp(packet, p, addresses + ports)
            } else {
                packet.update_l4(p.l4() + UDP_CHECK, addresses, ports, true)
            }
        }
        protocol::SCTP => {
            let (from, to) = match side {
                Side::Source => (port, p.destination_port),
                Side::Destination => (p.source_port, port),
            };
            old_port.word() == port.word() || !P::SUMS_PAYLOAD || update_sctp(packet, p, from, to)
        }
        _ => true,
    };
    if !done {
        return false;
    }
    if p.has_ports() && old_port.word() != port.word() {
        let offset = match side {
            Side::Source => p.l4(),
            Side::Destination => p.l4() + 2,
        };
        if !packet.write(offset, port) {
            return false;
        }
    }
    replace_address(packet, side, address, addresses, lower_ttl)
}

/// Whether a UDP packet has no checksum.
#[inline(always)]
pub fn is_unsummed<P: Packet>(packet: P, l4: usize) -> bool {
    packet.read::<u16>(l4 + UDP_CHECK) == Some(0)
}

/// Writes the new address and the TTL into the network header.
#[inline(always)]
pub fn replace_address<P: Packet, A: IpAddress>(
    packet: P,
    side: Side,
    address: A,
    change: u64,
    lower_ttl: bool,
) -> bool {
    let Address(words) = address.widen();
    if A::IS_V4 {
        packet.update::<Ipv4>(
            L3,
            #[inline(always)]
            |h| {
                let mut change = change;
                match side {
                    Side::Source => h.source = words[0],
                    Side::Destination => h.destination = words[0],
                }
                if lower_ttl {
                    let ttl = h.ttl;
                    change += checksum::difference(ttl as u32, ttl.wrapping_sub(1) as u32);
                    h.ttl = ttl.wrapping_sub(1);
                }
                h.check = checksum::update(h.check, change);
            },
        )
    } else {
        packet.update::<Ipv6>(
            L3,
            #[inline(always)]
            |h| {
                let place = match side {
                    Side::Source => &raw mut h.source,
                    Side::Destination => &raw mut h.destination,
                };
                // SAFETY: a field of a header in the packet.
                unsafe { wide::store(words, place) };
                if lower_ttl {
                    h.hop_limit = h.hop_limit.wrapping_sub(1);
                }
            },
        )
    }
}

/// Updates SCTP's CRC32c for changed ports.
#[inline(always)]
pub fn update_sctp<P: Packet, A>(packet: P, p: &Parsed<A>, source: Be16, destination: Be16) -> bool {
    let after = p.length.wrapping_sub((p.l4() - L3) as u32).wrapping_sub(4);
    packet.update::<Sctp>(
        p.l4(),
        #[inline(always)]
        |h| {
            let (old, new) = (ports_word(h.source, h.destination), ports_word(source, destination));
            let change = crate::packet::checksum::crc32c_difference(old, new, after);
            h.check = (u32::from_le(h.check) ^ change).to_le();
        },
    )
}

/// Two ports as the word that a CRC32c takes.
#[inline(always)]
fn ports_word(source: Be16, destination: Be16) -> u32 {
    let ([a, b], [c, d]) = (source.word().to_ne_bytes(), destination.word().to_ne_bytes());
    u32::from_le_bytes([a, b, c, d])
}
