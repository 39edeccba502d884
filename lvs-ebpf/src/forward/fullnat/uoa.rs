//! The client's address for real servers of UDP, as an option of the IPv4 header (UOA). Only in TC, and off by default.

use crate::packet::handover;
use crate::stats;
use lvs_common::byte_order::Be16;
use lvs_common::programs::Program;
use lvs_common::{
    abi::{Connection, IpAddress, Settings},
    checksum,
    exit::Exit,
    uoa::{self, LENGTH, OPTIONS},
    wire::{Ipv4, protocol},
};

use crate::{
    exits,
    forward::fullnat::options::lend_copy,
    kernel::{cpu, loops::KernelLoop},
    maps::ROUTES,
    packet::{access::Packet, access::TcPacket, control_block, parse::Family, tc::Room},
    programs::jump,
    values::parsed::{L3, Parsed},
};

/// Bytes of an IPv4 header before its options.
const HEADER: usize = size_of::<Ipv4>();

/// Whether a client's packet has to do with it: it is among the first of its connection, or has options of its own.
#[inline(always)]
pub fn concerns<A: IpAddress>(p: &Parsed<A>, settings: &Settings, c: &Connection<A>) -> bool {
    A::IS_V4
        && p.carried == protocol::UDP
        && settings.sysctls.uoa != 0
        // IPv6 has no place for it.
        && !c.is_crossed()
        && (c.in_packets < settings.sysctls.uoa || p.l4() != L3 + HEADER)
}

/// Tells the real server the client, or drops what a client says itself: all that it says is from an address that is trusted.
/// The packet has been counted.
#[inline(always)]
pub fn add_client_option<A: Family>(packet: TcPacket, p: &Parsed<A>, settings: &Settings, c: &Connection<A>) -> i32 {
    if !A::IS_V4 {
        return jump::<A, _>(packet, Program::FullNat);
    }
    let options = p.l4().wrapping_sub(L3 + HEADER);
    if options != 0 && options <= OPTIONS {
        let is_forged = lend_copy(
            packet,
            L3 + HEADER,
            options,
            options,
            #[inline(always)]
            |copy| uoa::is_among(copy, &KernelLoop),
        );
        match is_forged {
            Some(false) => {}
            Some(true) => return exits::drop(packet, Exit::DropForged),
            None => return exits::drop(packet, Exit::DropInternal),
        }
    }
    if c.in_packets <= settings.sysctls.uoa {
        stats::exit(if add(packet, p, c, options) { Exit::ToaSent } else { Exit::ToaNoRoom });
    }
    jump::<A, _>(packet, Program::FullNat)
}

/// Adds the option in front of the others, if there is room for it.
#[inline(always)]
fn add<A: Family>(packet: TcPacket, p: &Parsed<A>, c: &Connection<A>, options: usize) -> bool {
    let Some(route) = ROUTES.get(cpu::number()) else { return false };
    // What is to be cut would have it in every piece, and what was put together too long a piece.
    let whole = packet.segment() == 0 && control_block::largest(packet) == 0;
    if !whole || options + LENGTH > OPTIONS || p.length as usize + LENGTH > route.hop.mtu as usize {
        return false;
    }
    if !packet.adjust_room(LENGTH as i32, Room::AfterNetwork) {
        return false;
    }
    let words = uoa::option(c.client.widen().0[0], c.client_port);
    let written = packet.write::<[u32; LENGTH / 4]>(L3 + HEADER, words)
        && packet.update::<Ipv4>(L3, |h| {
            let first = |h: &Ipv4| u16::from_ne_bytes([h.version_ihl, h.tos]) as u32;
            let (before, old_length) = (first(h), h.length);
            h.version_ihl = h.version_ihl.wrapping_add(LENGTH as u8 / 4);
            h.length = Be16::new(old_length.get().wrapping_add(LENGTH as u16));
            let change = checksum::difference(before, first(h))
                + checksum::difference(old_length, h.length)
                + words[0] as u64
                + words[1] as u64;
            h.check = checksum::update(h.check, change);
        });
    written && handover::store(&p.deepened(LENGTH))
}
