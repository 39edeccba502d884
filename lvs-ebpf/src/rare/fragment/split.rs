//! A packet leaves in fragments.

use core::ffi::c_void;
use lvs_common::byte_order::{Be16, Be32};

use aya_ebpf::helpers::generated::{
    bpf_clone_redirect, bpf_get_prandom_u32, bpf_loop, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_store_bytes,
};
use lvs_common::{
    abi::{AF_INET, AF_INET6, Address, hop_flags},
    checksum,
    exit::Exit,
    wire::{Ethernet, Ipv4, Ipv6, Ipv6Fragment, ethertype, fragment, protocol},
};

use crate::packet::control_block;
use crate::values::route::Route;
use crate::{
    config::{self, destination::DestRef},
    egress::{route, send},
    exits,
    kernel::{clock, cpu},
    maps::SCRATCH,
    packet::{access::Packet, access::TcPacket},
    values::{
        parsed::L3,
        scratch::{PAYLOAD, Scratch},
    },
};

/// Most fragments of a packet.
const FRAGMENTS: u32 = 256;
/// IPv6's header and fragment header.
const HEADERS6: u32 = 48;

struct Cutting {
    packet: TcPacket,
    scratch: *mut Scratch,
    ifindex: u32,
    /// Bytes of headers that each fragment has.
    header: u32,
    /// Bytes of payload a fragment takes.
    step: u32,
    end: u32,
    v6: bool,
    /// IPv6: protocol of the payload and the fragments' identification.
    next: u8,
    id: Be32,
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
    let headed = if c.v6 { head6(c, at, length, more) } else { head4(c, at, length, more) };
    // SAFETY: a helper call with a valid context.
    headed && unsafe { bpf_clone_redirect(c.packet.0, c.ifindex, 0) == 0 }
}

/// Makes the IPv4 header that of the fragment at `at`.
#[inline(always)]
fn head4(c: &Cutting, at: u32, length: u32, more: bool) -> bool {
    let Some(h) = c.packet.at::<Ipv4>(L3) else { return false };
    let total = Be16::new((c.header + length) as u16);
    let field = Be16::new((at / 8) as u16 & 0x1fff) | if more { fragment::MF } else { Be16::ZERO };
    // SAFETY: checked by `at`.
    unsafe {
        let change = checksum::difference((*h).length, total) + checksum::difference((*h).fragment, field);
        (*h).length = total;
        (*h).fragment = field;
        (*h).check = checksum::update((*h).check, change);
    }
    true
}

/// Makes the IPv6 headers those of the fragment at `at`.
#[inline(always)]
fn head6(c: &Cutting, at: u32, length: u32, more: bool) -> bool {
    let Some(h) = c.packet.at::<Ipv6>(L3) else { return false };
    // SAFETY: checked by `at`.
    unsafe {
        (*h).payload_length = Be16::new((length + 8) as u16);
        (*h).next_header = protocol::FRAGMENT;
    }
    let Some(f) = c.packet.at::<Ipv6Fragment>(L3 + 40) else { return false };
    let offset = Be16::new((at & 0xfff8) as u16 | more as u16);
    // SAFETY: checked by `at`.
    unsafe { *f = Ipv6Fragment { next_header: c.next, reserved: 0, offset, id: c.id } }
    true
}

/// What is cut: bytes of headers and of payload, protocol of the payload (IPv6), destination of the header.
struct Whole {
    v6: bool,
    header: u32,
    length: u32,
    next: u8,
    to: Address,
}

/// Reads the packet's header.
#[inline(always)]
fn read(packet: TcPacket) -> Option<Whole> {
    let ethernet = packet.at::<Ethernet>(0)?;
    // SAFETY: checked by `at`.
    if unsafe { (*ethernet).ethertype } == ethertype::IPV6 {
        let h = packet.at::<Ipv6>(L3)?;
        // SAFETY: checked by `at`.
        let (length, next, to) =
            unsafe { ((*h).payload_length.get() as u32, (*h).next_header, Address((*h).destination)) };
        return Some(Whole { v6: true, header: 40, length, next, to });
    }
    let h = packet.at::<Ipv4>(L3)?;
    // SAFETY: checked by `at`.
    let (ihl, total, to) =
        unsafe { ((*h).version_ihl & 15, (*h).length.get() as u32, Address([(*h).destination, 0, 0, 0])) };
    let header = ihl as u32 * 4;
    Some(Whole { v6: false, header, length: total.wrapping_sub(header), next: 0, to })
}

/// The program that cuts.
#[inline(always)]
pub fn run(packet: TcPacket) -> i32 {
    let (most, dest) = control_block::split(packet);
    let Some(settings) = config::settings() else { return TcPacket::DROP };
    let Some(whole) = read(packet) else { return exits::drop(packet, Exit::DropMalformed) };
    route::with(
        packet,
        #[inline(always)]
        |route| fragment(packet, &whole, most, DestRef::get(dest, settings.epoch), route),
    )
}

/// Cuts the packet and sends the fragments.
#[inline(always)]
fn fragment(packet: TcPacket, whole: &Whole, most: u32, dest: Option<DestRef>, route: &mut Route) -> i32 {
    let now = clock::jiffies();
    let found = match dest {
        Some(dest) => route::route(packet, dest.family(), dest.address(), now, route),
        None => route::route(packet, if whole.v6 { AF_INET6 } else { AF_INET }, &whole.to, now, route),
    };
    if !found || route.local {
        return exits::drop(packet, Exit::DropNoRoute);
    }
    let headers = if whole.v6 { HEADERS6 } else { whole.header };
    let Some(scratch) = SCRATCH.get_ptr_mut(cpu::number()) else { return exits::drop(packet, Exit::DropInternal) };
    if headers < 20 || whole.length == 0 || whole.length >= PAYLOAD as u32 || most < headers + 8 {
        return exits::drop(packet, Exit::DropTooBig);
    }
    let length = (whole.length.wrapping_sub(1) & (PAYLOAD as u32 - 1)) + 1;
    // SAFETY: a helper call with a valid context and a buffer longer than said.
    let loaded = unsafe {
        let buffer = (&raw mut (*scratch).payload).cast();
        bpf_skb_load_bytes(packet.0.cast(), L3 as u32 + whole.header, buffer, length) == 0
    };
    if !loaded {
        return exits::drop(packet, Exit::DropInternal);
    }
    let step = (most - headers) & !7 & 0xffff;
    if route.hop.flags & hop_flags::NEIGHBOUR == 0 {
        // Nobody answers for the next hop yet. A piece of the packet asks the kernel to find out; the rest is lost.
        // SAFETY: a helper call with a valid context.
        if unsafe { bpf_skb_change_tail(packet.0, L3 as u32 + whole.header + step, 0) } != 0 {
            return exits::drop(packet, Exit::DropNoRoute);
        }
        return exits::leave(packet, Exit::DropNoRoute, send::send_tc(packet, route));
    }
    let Some(ethernet) = packet.at::<Ethernet>(0) else { return TcPacket::DROP };
    // SAFETY: checked by `at`.
    unsafe {
        (*ethernet).destination = route.hop.destination;
        (*ethernet).source = route.hop.source;
    }
    let mut c = Cutting {
        packet,
        scratch,
        ifindex: route.hop.ifindex,
        header: headers,
        step,
        end: length,
        v6: whole.v6,
        next: whole.next,
        // SAFETY: a helper without arguments.
        id: Be32::from_word(unsafe { bpf_get_prandom_u32() }),
        failed: false,
    };
    // SAFETY: the callback gets the structure it expects.
    unsafe { bpf_loop(FRAGMENTS, cut as *mut c_void, (&raw mut c).cast(), 0) };
    exits::drop(packet, if c.failed { Exit::DropInternal } else { Exit::Fragmented })
}
