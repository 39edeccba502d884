//! Fragments: packets are cut for a next hop that is too small for them. TC only.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{
    bpf_clone_redirect, bpf_loop, bpf_skb_change_tail, bpf_skb_load_bytes,
    bpf_skb_store_bytes,
};
use lvs_common::{
    abi::hop_flags,
    checksum,
    exit::Exit,
    wire::{Ethernet, Ipv4, fragment},
};

use crate::{
    count,
    deliver::{self, Route},
    maps::{PAYLOAD, SCRATCH, Scratch},
    packet::{L3, Packet, TcPacket},
    pipeline::drop,
    tail::{Tail, jump},
    track::{self, Dest},
};

/// Words left for the program that cuts.
mod note {
    /// MTU of the next hop.
    pub const MTU: usize = 0;
    /// The destination the packet goes to.
    pub const DEST: usize = 1;
}

/// Most fragments of a packet.
const MOST: u32 = 256;

/// Sends a finished IPv4 packet without DF to destination `dest` in fragments of at most `mtu` bytes.
#[inline(always)]
pub fn split<P: Packet>(packet: P, dest: u32, mtu: u32) -> i32 {
    packet.set_note(note::MTU, mtu);
    packet.set_note(note::DEST, dest);
    jump(packet, Tail::Split);
    drop(packet, Exit::DropInternal)
}

struct Cutting {
    packet: TcPacket,
    scratch: *mut Scratch,
    ifindex: u32,
    header: u32,
    /// Bytes of payload a fragment takes.
    step: u32,
    end: u32,
    /// Offset of the packet itself, and whether fragments follow it: it may be one already.
    fragment: u16,
    failed: bool,
}

extern "C" fn cut(index: u64, context: *mut c_void) -> i64 {
    // SAFETY: `run` passed it.
    let c = unsafe { &mut *context.cast::<Cutting>() };
    // Counted by the loop itself and not by the structure: the verifier would follow each value that that takes.
    let at = (index as u32).wrapping_mul(c.step);
    if at >= c.end {
        return 1;
    }
    c.failed = !piece(c, at);
    c.failed as i64
}

/// Sends one fragment.
#[inline(always)]
fn piece(c: &Cutting, at: u32) -> bool {
    let left = c.end.wrapping_sub(at);
    let more = left > c.step;
    let at = at & (PAYLOAD as u32 - 1);
    // From 1 to PAYLOAD, in a form that the verifier reads so.
    let length = ((if more { c.step } else { left }).wrapping_sub(1) & (PAYLOAD as u32 - 1)) + 1;
    // SAFETY: offset and length are masked to half the scratch each; helper calls with a valid context.
    unsafe {
        let from = (&raw const (*c.scratch).payload).cast::<u8>().add(at as usize);
        let skb = c.packet.0;
        if bpf_skb_change_tail(skb, L3 as u32 + c.header + length, 0) != 0
            || bpf_skb_store_bytes(skb, L3 as u32 + c.header, from.cast(), length, 0) != 0
        {
            return false;
        }
    }
    let Some(h) = c.packet.at::<Ipv4>(L3) else { return false };
    // SAFETY: checked by `at`.
    unsafe {
        let total = ((c.header + length) as u16).to_be();
        let own = u16::from_be(c.fragment);
        let mut field = (own & 0x1fff).wrapping_add((at / 8) as u16) & 0x1fff;
        if more {
            field |= u16::from_be(fragment::MF);
        } else {
            field |= own & u16::from_be(fragment::MF);
        }
        let field = field.to_be();
        let change = checksum::difference((*h).length as u32, total as u32)
            + checksum::difference((*h).fragment as u32, field as u32);
        (*h).length = total;
        (*h).fragment = field;
        (*h).check = checksum::update((*h).check, change);
        bpf_clone_redirect(c.packet.0, c.ifindex, 0) == 0
    }
}

/// The program that cuts.
#[inline(always)]
pub fn run(packet: TcPacket) -> i32 {
    let (mtu, dest) = (packet.note(note::MTU), packet.note(note::DEST));
    let Some(settings) = track::settings() else { return TcPacket::DROP };
    let Some(dest) = Dest::get(dest, settings.epoch) else { return drop(packet, Exit::DropInternal) };
    let mut route = Route::NONE;
    // SAFETY: an element of the map.
    let (to, family) = unsafe { (&(*dest.it).address, (*dest.it).family) };
    if !deliver::route(packet, family, to, track::jiffies(), &mut route) || route.local {
        return drop(packet, Exit::DropNoRoute);
    }
    let Some(h) = packet.at::<Ipv4>(L3) else { return drop(packet, Exit::DropMalformed) };
    // SAFETY: checked by `at`.
    let (header, total, own) = unsafe {
        (((*h).version_ihl & 15) as u32 * 4, u16::from_be((*h).length) as u32, (*h).fragment)
    };
    let length = total.wrapping_sub(header);
    let Some(scratch) = SCRATCH.get_ptr_mut(count::cpu()) else { return drop(packet, Exit::DropInternal) };
    if header < 20 || total <= header || length >= PAYLOAD as u32 || mtu < header + 8 {
        return drop(packet, Exit::DropTooBig);
    }
    let length = (length.wrapping_sub(1) & (PAYLOAD as u32 - 1)) + 1;
    // SAFETY: a helper call with a valid context and a buffer longer than said.
    let loaded = unsafe {
        bpf_skb_load_bytes(packet.0.cast(), L3 as u32 + header, (&raw mut (*scratch).payload).cast(), length) == 0
    };
    let Some(ethernet) = packet.at::<Ethernet>(0) else { return TcPacket::DROP };
    if !loaded {
        return drop(packet, Exit::DropInternal);
    }
    // SAFETY: checked by `at`.
    unsafe {
        (*ethernet).destination = route.hop.destination;
        (*ethernet).source = route.hop.source;
    }
    let step = (mtu - header) & !7;
    let known = route.hop.flags & hop_flags::NEIGHBOUR != 0;
    if !known {
        // Nobody answers for the next hop yet. The first fragment asks the kernel to find out; the datagram is lost.
        // SAFETY: a helper call with a valid context.
        if unsafe { bpf_skb_change_tail(packet.0, L3 as u32 + header + (step & 0xfff), 0) } != 0 {
            return drop(packet, Exit::DropNoRoute);
        }
        count::exit(Exit::DropNoRoute);
        return deliver::send_tc(packet, &route);
    }
    let mut c = Cutting {
        packet,
        scratch,
        ifindex: route.hop.ifindex,
        header,
        step,
        end: length,
        fragment: own,
        failed: false,
    };
    // SAFETY: the callback gets the structure it expects.
    unsafe { bpf_loop(MOST, cut as *mut c_void, (&raw mut c).cast(), 0) };
    drop(packet, if c.failed { Exit::DropInternal } else { Exit::Fragmented })
}
