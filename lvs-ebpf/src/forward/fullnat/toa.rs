//! TCP options: the client's address for the real server, and room for it in what the client sends. Only in TC, and apart
//! from the established flow: XDP hands up the few packets that this is about.

use crate::packet::control_block::Flag;
use crate::stats;
use core::hint::black_box;
use lvs_common::byte_order::Be16;
use lvs_common::programs::Program;

use lvs_common::{
    abi::{Address, Connection, IpAddress},
    checksum, cross,
    exit::Exit,
    fullnat::{ToaAction, each_toa, segment_size, toa_action},
    toa::{self, LENGTH4, LENGTH6, Options},
    wire::{Ipv4, Ipv6, Tcp},
};

use crate::forward::fullnat::handover::{self, Matched};
use crate::forward::fullnat::options::{self, Copy, HEADER, header, lend_copy};
use crate::packet::handover as parsed_handover;
use crate::packet::offsets::TCP_CHECK;
use crate::{
    exits,
    forward::fullnat::uoa,
    kernel::{cpu, loops::KernelLoop},
    maps::ROUTES,
    packet::{access::Packet, access::TcPacket, control_block, parse::Family},
    programs::jump,
    values::{
        parsed::{L3, Parsed},
        scratch::PAYLOAD,
    },
};

/// Bytes of the longest TCP header.
const LONGEST: usize = 60;

/// The program for a client's packet: tells the real server the client, or takes away what the client pretends to be.
#[inline(always)]
pub fn add_client_option<A: Family>(packet: TcPacket) -> i32 {
    control_block::set(packet, Flag::OptionsDone);
    let Some(Matched { p, settings, connection, .. }) = handover::load::<A>() else { return TcPacket::PASS };
    let c = connection.get();
    let Some(segment) = options::segment(packet, p) else { return uoa::add_client_option(packet, p, settings, c) };
    let wanted = toa_action(c.toa_state, settings.sysctls.toa, c.first, &segment);
    // Not even behind the director's own: nobody is to wonder which of two counts.
    if !segment.is_plain && !clean(packet, p) {
        return exits::drop(packet, Exit::DropInternal);
    }
    if wanted == ToaAction::Add {
        stats::exit(if add(packet, p, c) { Exit::ToaSent } else { Exit::ToaNoRoom });
    }
    jump::<A, _>(packet, Program::FullNat)
}

/// Adds the option in front of the others, if there is room for it.
#[inline(always)]
fn add<A: Family>(packet: TcPacket, p: &Parsed<A>, c: &Connection<A>) -> bool {
    let Some(h) = packet.read::<Tcp>(p.l4()) else { return false };
    let options = header(&h).wrapping_sub(HEADER);
    let more = if A::IS_V4 { LENGTH4 } else { LENGTH6 };
    let length = p.length as usize;
    let behind = length.wrapping_sub(p.l4() - L3 + HEADER);
    let Some(route) = ROUTES.get(cpu::number()) else { return false };
    let mtu = route.hop.mtu as u32;
    let mtu = if c.is_crossed() { cross::room(A::IS_V4, mtu) } else { mtu } as usize;
    // What is to be cut, or was put together, would have it in one piece and too long a piece.
    let whole = packet.segment() == 0 && control_block::largest(packet) == 0;
    let fits = length + more <= mtu && behind <= PAYLOAD && options <= behind;
    if !whole || !fits || HEADER + options + more > LONGEST {
        return false;
    }
    let from = (p.l4() + HEADER) as u32;
    let moved = lend_copy(
        packet,
        p.l4() + HEADER,
        behind,
        options,
        #[inline(always)]
        |copy| {
            // The new length does not count what fills up a short frame after the packet.
            packet.change_tail((L3 + length + more) as u32)
                && (behind == 0
                    || packet.store_bytes_at::<PAYLOAD, _>(from + more as u32, &copy.scratch.payload, 0, behind as u32))
        },
    );
    moved == Some(true) && write(packet, p, c.client.widen(), c.client_port, more) && lengthen(packet, p, more)
}

/// Writes the option, and what of the TCP header follows from it.
#[inline(always)]
fn write<A: IpAddress>(packet: TcPacket, p: &Parsed<A>, client: Address, port: Be16, more: usize) -> bool {
    let Address(address) = client;
    let mut change = 0;
    if A::IS_V4 {
        let words = toa::option4(address[0], port);
        change += words[0] as u64 + words[1] as u64;
        if !packet.write::<[u32; LENGTH4 / 4]>(p.l4() + HEADER, words) {
            return false;
        }
    } else {
        let words = toa::option6(address, port);
        change += words[0] as u64 + words[1] as u64 + words[2] as u64 + words[3] as u64 + words[4] as u64;
        if !packet.write::<[u32; LENGTH6 / 4]>(p.l4() + HEADER, words) {
            return false;
        }
    }
    let is_there = packet.update::<Tcp>(p.l4(), |h| {
        let before = u16::from_ne_bytes([h.offset, h.flags]);
        h.offset = h.offset.wrapping_add((more as u8 / 4) << 4);
        change += checksum::difference(before as u32, u16::from_ne_bytes([h.offset, h.flags]) as u32);
    });
    if !is_there {
        return false;
    }
    let before = p.length as usize - (p.l4() - L3);
    let length = |bytes: usize| Be16::new(bytes as u16);
    // The length is in the pseudo header.
    let pseudo = checksum::difference(length(before), length(before + more));
    packet.update_l4(p.l4() + TCP_CHECK, pseudo, change, false)
}

/// Makes the network header one of a packet that is `more` bytes longer, and has the pipeline know.
#[inline(always)]
fn lengthen<A: Family>(packet: TcPacket, p: &Parsed<A>, more: usize) -> bool {
    let is_there = if A::IS_V4 {
        packet.update::<Ipv4>(L3, |h| {
            let (before, after) = (h.length, Be16::new(h.length.get().wrapping_add(more as u16)));
            h.length = after;
            h.check = checksum::update(h.check, checksum::difference(before, after));
        })
    } else {
        packet.update::<Ipv6>(L3, |h| h.payload_length = Be16::new(h.payload_length.get().wrapping_add(more as u16)))
    };
    let mut longer = *p;
    longer.length += more as u32;
    is_there && parsed_handover::store(&longer)
}

/// Replaces every TOA of the packet by padding.
#[inline(always)]
fn clean<A: Family>(packet: TcPacket, p: &Parsed<A>) -> bool {
    lend_options(
        packet,
        p,
        #[inline(always)]
        |options| clean_options(packet, p, options),
    )
    .unwrap_or(true)
}

#[inline(always)]
fn clean_options<A: Family>(packet: TcPacket, p: &Parsed<A>, options: &Copy<'_>) -> bool {
    let mut done = true;
    each_toa(options, &KernelLoop, &mut |at, length| {
        // A word that the compiler does not know: else it would have a function write the bytes.
        let padding = black_box(u32::from_ne_bytes([1; 4]));
        let mut change = 0;
        let mut word = 0;
        while word < LENGTH6 {
            if word < length {
                let old = options.bytes::<4>(at + word).unwrap_or_default();
                change += checksum::difference(u32::from_ne_bytes(old), u32::from_ne_bytes([1; 4]));
            }
            word += 4;
        }
        let change = if at & 1 == 0 { change } else { checksum::shifted(change) };
        let place = p.l4() + HEADER + (at & 63);
        let stored = match length {
            LENGTH4 => packet.store_unsummed(place, &[padding; LENGTH4 / 4]),
            _ => packet.store_unsummed(place, &[padding; LENGTH6 / 4]),
        };
        done &= stored && packet.update_l4(p.l4() + TCP_CHECK, 0, change, false);
    });
    done
}

/// Lends a copy of the packet's options; `None` if it has none.
#[inline(always)]
fn lend_options<A, R>(packet: TcPacket, p: &Parsed<A>, work: impl FnOnce(&Copy<'_>) -> R) -> Option<R> {
    let options = header(&packet.read::<Tcp>(p.l4())?).wrapping_sub(HEADER);
    if options == 0 || options > LONGEST - HEADER {
        return None;
    }
    lend_copy(packet, p.l4() + HEADER, options, options, work)
}

/// The program for a real server's SYN: the client learns a segment size that leaves room for the option.
#[inline(always)]
pub fn clamp_mss<A: Family>(packet: TcPacket) -> i32 {
    control_block::set(packet, Flag::OptionsDone);
    let Some(p) = parsed_handover::load::<A>() else { return TcPacket::PASS };
    let more = if A::IS_V4 { LENGTH4 } else { LENGTH6 } as u16;
    let found = lend_options(
        packet,
        p,
        #[inline(always)]
        |options| segment_size(options, &KernelLoop),
    );
    if let Some(Some((at, size))) = found
        && size > more
        && !replace(packet, p, at, Be16::new(size), Be16::new(size - more))
    {
        return exits::drop(packet, Exit::DropInternal);
    }
    jump::<A, _>(packet, Program::FullNatReply)
}

/// Replaces a number among the options.
#[inline(always)]
fn replace<A>(packet: TcPacket, p: &Parsed<A>, at: usize, before: Be16, after: Be16) -> bool {
    let at = at & 63;
    let change = checksum::difference(before, after);
    let change = if at & 1 == 0 { change } else { checksum::shifted(change) };
    packet.store_unsummed(p.l4() + HEADER + at, &after) && packet.update_l4(p.l4() + TCP_CHECK, 0, change, false)
}
