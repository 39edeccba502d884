//! Sums over whole payloads, which only TC can make: datagrams without a checksum, tunnels with one.

use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_csum_diff};
use lvs_common::{
    abi::{Address, IpAddress},
    checksum,
    wire::{Udp, protocol},
};

use crate::{
    kernel::{
        loops::{Turn, repeat},
        scratch,
    },
    maps::SCRATCH,
    packet::{
        access::{Packet, TcPacket},
        control_block::{self, Flag},
    },
    values::parsed::Parsed,
};

/// Bytes that are summed at a time.
const CHUNK: u32 = 256;

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
    scratch::lend(
        &SCRATCH,
        #[inline(always)]
        |scratch| {
            let Some(buffer) = scratch.payload.first_chunk_mut() else { return -1 };
            let mut summing = Summing { packet: TcPacket(skb), start: at, end, sum: 0, buffer };
            repeat(65536 / CHUNK, &mut summing);
            summing.sum
        },
    )
    .unwrap_or(-1)
}

/// Bytes `start` to `end` of a packet, being summed; the sum is negative if the packet is not that long.
struct Summing<'a> {
    packet: TcPacket,
    start: u32,
    end: u32,
    sum: i64,
    buffer: &'a mut [u8; CHUNK as usize],
}

impl Turn for Summing<'_> {
    #[inline(always)]
    fn turn(&mut self, index: u32) -> bool {
        // Counted by the loop itself and not by the structure. See "loop state" in docs/develop/verifier.md.
        let at = self.start.wrapping_add(index.wrapping_mul(CHUNK));
        if at >= self.end {
            return true;
        }
        let left = self.end.wrapping_sub(at);
        if left < CHUNK {
            clear(self.buffer);
        }
        let length = if left < CHUNK { left } else { CHUNK };
        self.sum = if self.packet.load_bytes(at, self.buffer, length) { add(self.buffer, self.sum as u32) } else { -1 };
        self.sum < 0
    }
}

/// Zeroes the buffer. See "memset and memcpy" in docs/develop/verifier.md.
#[inline(always)]
fn clear(buffer: &mut [u8; CHUNK as usize]) {
    let words = buffer.as_mut_ptr().cast::<u64>();
    for word in 0..CHUNK as usize / 8 {
        // SAFETY: within the buffer. BPF stores need no alignment.
        unsafe { words.add(word).write_volatile(0) }
    }
}

/// Adds the bytes of the buffer to a sum; a negative number is an error.
#[inline(always)]
fn add(buffer: &mut [u8; CHUNK as usize], sum: u32) -> i64 {
    // SAFETY: a helper call with a buffer of this length, which the helper only reads.
    unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, buffer.as_mut_ptr().cast(), CHUNK, sum) }
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
    let mut remainder = old ^ new;
    repeat(checksum::CRC32C_STEPS, &mut |step| {
        remainder = checksum::crc32c_step(remainder, after, step);
        false
    });
    remainder
}
