//! Sums over whole payloads, which only TC can make: datagrams without a checksum, tunnels with one.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{bpf_csum_diff, bpf_loop, bpf_skb_load_bytes},
};
use lvs_common::{
    abi::{Address, IpAddress},
    checksum,
    wire::{Udp, protocol},
};

use crate::{
    kernel::cpu,
    maps::SCRATCH,
    packet::{
        access::{Packet, TcPacket},
        control_block::{self, Flag},
    },
    values::parsed::Parsed,
};

/// Bytes that are summed at a time.
const CHUNK: u32 = 256;

struct Summing {
    skb: *mut __sk_buff,
    start: u32,
    end: u32,
    sum: i64,
    buffer: *mut u8,
}

extern "C" fn add_chunk(index: u64, context: *mut c_void) -> i64 {
    // SAFETY: `sum` passed it.
    let s = unsafe { &mut *context.cast::<Summing>() };
    // Counted by the loop itself and not by the structure: the verifier would follow each value that that takes.
    let at = s.start.wrapping_add((index as u32).wrapping_mul(CHUNK));
    if at >= s.end {
        return 1;
    }
    let left = s.end.wrapping_sub(at);
    // SAFETY: helper calls with a valid context and a buffer longer than said.
    unsafe {
        if left >= CHUNK {
            if bpf_skb_load_bytes(s.skb.cast(), at, s.buffer.cast(), CHUNK) != 0 {
                s.sum = -1;
                return 1;
            }
        } else {
            // From 1 to CHUNK, in a form that the verifier reads so.
            let length = (left.wrapping_sub(1) & (CHUNK - 1)) + 1;
            for i in 0..CHUNK as usize / 8 {
                s.buffer.cast::<u64>().add(i).write_volatile(0);
            }
            if bpf_skb_load_bytes(s.skb.cast(), at, s.buffer.cast(), length) != 0 {
                s.sum = -1;
                return 1;
            }
        }
        s.sum = bpf_csum_diff(core::ptr::null_mut(), 0, s.buffer.cast(), CHUNK, s.sum as u32);
    }
    (s.sum < 0) as i64
}

/// The sum of the bytes from `at` to `end` of a packet, `None` if the packet is not that long. `at` counts as an even
/// position.
#[inline(always)]
pub fn sum(packet: TcPacket, at: u32, end: u32) -> Option<u64> {
    let sum = sum_bytes(packet.0, at, end);
    if sum < 0 { None } else { Some(sum as u64) }
}

/// That of [`sum`], or a negative number; of global linkage, as [`advance`](crate::table::advance)'s are.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sum_bytes(skb: *mut __sk_buff, at: u32, end: u32) -> i64 {
    let Some(scratch) = SCRATCH.get_ptr_mut(cpu::number()) else { return -1 };
    // SAFETY: this CPU's own element.
    let buffer = unsafe { (&raw mut (*scratch).payload).cast() };
    let mut s = Summing { skb, start: at, end, sum: 0, buffer };
    // SAFETY: the callback gets the structure it expects.
    unsafe { bpf_loop(65536 / CHUNK, add_chunk as *mut c_void, (&raw mut s).cast(), 0) };
    s.sum
}

/// The sum of a pseudo header.
#[inline(always)]
pub fn pseudo(source: [u32; 4], destination: [u32; 4], protocol: u8, length: u32) -> u64 {
    let words = |w: [u32; 4]| w[0] as u64 + w[1] as u64 + w[2] as u64 + w[3] as u64;
    words(source) + words(destination) + length.to_be() as u64 + (protocol as u32).to_be() as u64
}

/// Gives a UDP datagram without a checksum one, `change` being what the rewriting is about to add to its sum.
#[inline(always)]
pub fn fill_udp<P: Packet, A: IpAddress>(packet: P, p: &Parsed<A>, change: u64) -> bool {
    let Ok(packet) = packet.in_tc() else { return false };
    if control_block::has(packet, Flag::Fragment) {
        // The others would have to be summed: it stays without.
        return true;
    }
    let Some(length) = packet.look(p.l4(), |h: &Udp| h.length.get() as u32) else { return false };
    let Some(payload) = sum(packet, p.l4() as u32, (p.l4() as u32).wrapping_add(length)) else { return false };
    let all = payload + pseudo(p.source.widen().0, p.destination.widen().0, protocol::UDP, length) + change;
    packet.update::<Udp>(p.l4(), |h| h.check = nonzero(!checksum::fold(all)))
}

/// A UDP checksum of 0 is sent as its other form (RFC 768).
#[inline(always)]
fn nonzero(check: u16) -> u16 {
    if check == 0 { 0xffff } else { check }
}

/// Fills in the checksum of a tunnel's outer UDP header at `at`. A packet that is still to be cut into segments goes
/// without: each segment would need its own.
#[inline(always)]
pub fn fill_outer_udp<P: Packet>(packet: P, ends: (&Address, &Address), at: usize, length: u32) -> bool {
    let Ok(packet) = packet.in_tc() else { return false };
    if packet.segment() != 0 {
        return true;
    }
    let Some(payload) = sum(packet, at as u32, (at as u32).wrapping_add(length)) else { return false };
    let all = payload + pseudo(ends.0.0, ends.1.0, protocol::UDP, length);
    packet.update::<Udp>(at, |h| h.check = nonzero(!checksum::fold(all)))
}

/// Fills in the checksum of a GRE header at `at`, which covers the `length` bytes from there (RFC 2784).
#[inline(always)]
pub fn fill_gre<P: Packet>(packet: P, at: usize, length: u32) -> bool {
    let Ok(packet) = packet.in_tc() else { return false };
    if packet.segment() != 0 {
        return true;
    }
    let Some(payload) = sum(packet, at as u32, (at as u32).wrapping_add(length)) else { return false };
    packet.write(at + 4, !checksum::fold(payload))
}

/// [`checksum::crc32c_difference`] with its steps in a loop of the kernel's, which the verifier follows once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn crc32c_difference(old: u32, new: u32, after: u32) -> u32 {
    let mut c = Shifting { remainder: old ^ new, after };
    // SAFETY: the callback gets the structure it expects.
    unsafe { bpf_loop(checksum::CRC32C_STEPS, shift as *mut c_void, (&raw mut c).cast(), 0) };
    c.remainder
}

struct Shifting {
    remainder: u32,
    after: u32,
}

extern "C" fn shift(step: u64, context: *mut c_void) -> i64 {
    // SAFETY: `crc32c_difference` passed it.
    let c = unsafe { &mut *context.cast::<Shifting>() };
    c.remainder = checksum::crc32c_step(c.remainder, c.after, step as u32);
    0
}
