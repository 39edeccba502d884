//! The segment size (MSS) that this host tells clients of a virtual address, less what the tunnel puts before their packets: a
//! packet of full size then fits the way from the director, whether or not an ICMP "too big" reaches the client.

use aya_ebpf::programs::TcContext;
use lvs_common::abi::{AF_INET, AF_INET6};
use lvs_common::byte_order::Be16;
use lvs_common::wire::{ethertype, protocol, tcp_flags};

use crate::outer::ETHERNET;
use crate::vips::VIPS;

/// Options of a TCP header that are looked at: more than hosts send, and no more than fit.
const OPTIONS: usize = 12;
/// `tc_index` of a packet in which the size has been lowered. Nobody else is likely to use the number.
const LOWERED: u32 = 0x4c57;
/// Where the checksum and the options are in a TCP header.
const CHECKSUM: usize = 16;
const HEADER: usize = 20;

/// Notes how much a tunnel takes of packets for a virtual address, by where the inner packet began in the frame.
#[inline(always)]
pub fn note(taken: *mut u32, inner: usize) {
    let bytes = (inner - ETHERNET) as u32;
    // SAFETY: a value of the map, of which other CPUs read and write whole words.
    unsafe {
        if taken.read_volatile() < bytes {
            taken.write_volatile(bytes);
        }
    }
}

/// Lowers the size in a SYN-ACK from a virtual address for which packets came in a tunnel.
#[inline(always)]
pub fn lower(ctx: &TcContext) -> Option<()> {
    // SAFETY: the field of the context may be read.
    let (vip, tcp) = match Be16::from_word(unsafe { (*ctx.skb.skb).protocol } as u16) {
        ethertype::IPV4 => source_v4(ctx)?,
        ethertype::IPV6 => source_v6(ctx)?,
        _ => return None,
    };
    let [offset, flags]: [u8; 2] = ctx.load(tcp + 12).ok()?;
    const SYN_ACK: u8 = tcp_flags::SYN | tcp_flags::ACK;
    if flags & SYN_ACK != SYN_ACK {
        return None;
    }
    // SAFETY: a copy of a word.
    let taken = unsafe { VIPS.get_ptr(vip)?.read_volatile() };
    let (at, size) = segment_size(ctx, tcp, tcp + (offset >> 4) as usize * 4)?;
    if taken == 0 || u32::from(size) <= taken {
        return None;
    }
    // A packet that leaves by a device upon another one comes by again there.
    // SAFETY: a field of the context that may be read and written.
    unsafe {
        if (*ctx.skb.skb).tc_index != 0 {
            return None;
        }
        (*ctx.skb.skb).tc_index = LOWERED;
    }
    let lower = size - taken as u16;
    // An option may begin at an odd place; then its halves stand in two words of the sum.
    let (before, after) = if (at - tcp) & 1 == 0 { (size, lower) } else { (size.swap_bytes(), lower.swap_bytes()) };
    ctx.store(at, &lower.to_be(), 0).ok()?;
    ctx.l4_csum_replace(tcp + CHECKSUM, u16::to_be(before).into(), u16::to_be(after).into(), 2).ok()
}

/// The source of an IPv4 packet of TCP as a key of the virtual addresses, and where TCP begins.
#[inline(always)]
fn source_v4(ctx: &TcContext) -> Option<([u32; 5], usize)> {
    let [first, fragment, third, source, _]: [u32; 5] = ctx.load(ETHERNET).ok()?;
    const OFFSET: u32 = 0x1fff;
    if (u32::from_be(third) >> 16) as u8 != protocol::TCP || u32::from_be(fragment) & OFFSET != 0 {
        return None;
    }
    let header = (u32::from_be(first) >> 24 & 0xf) as usize * 4;
    Some(([AF_INET.into(), source, 0, 0, 0], ETHERNET + header))
}

/// The same of an IPv6 packet without extension headers.
#[inline(always)]
fn source_v6(ctx: &TcContext) -> Option<([u32; 5], usize)> {
    let [_, second]: [u32; 2] = ctx.load(ETHERNET).ok()?;
    if (u32::from_be(second) >> 8) as u8 != protocol::TCP {
        return None;
    }
    let [a, b, c, d]: [u32; 4] = ctx.load(ETHERNET + 8).ok()?;
    Some(([AF_INET6.into(), a, b, c, d], ETHERNET + 40))
}

/// Where the segment size is among the options between the TCP header at `tcp` and `end`, and what it is (RFC 9293 §3.2).
#[inline(always)]
fn segment_size(ctx: &TcContext, tcp: usize, end: usize) -> Option<(usize, u16)> {
    const END: u8 = 0;
    const PADDING: u8 = 1;
    const SIZE: u8 = 2;
    let mut at = tcp + HEADER;
    for _ in 0..OPTIONS {
        if at + 4 > end {
            return None;
        }
        let [kind, length]: [u8; 2] = ctx.load(at).ok()?;
        match kind {
            END => return None,
            PADDING => at += 1,
            SIZE if length == 4 => return Some((at + 2, u16::from_be(ctx.load(at + 2).ok()?))),
            _ if length < 2 => return None,
            _ => at += length as usize,
        }
    }
    None
}
