//! Remote checksum offload: the sender left the inner transport checksum to this end.

use core::hint::black_box;
use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::{bpf_csum_diff, bpf_skb_load_bytes};
use aya_ebpf::programs::TcContext;

use crate::inner::Inner;
use crate::tunnel::RemoteChecksum;

/// Bytes summed at a time.
const CHUNK: usize = 128;
/// Enough chunks for the longest IP packet.
const CHUNKS: usize = 65536 / CHUNK;

/// Computes the checksum and stores it. Its field holds the sum of the pseudo header until then, so the sum over all
/// from `start` on, the field included, is the checksum's complement.
#[inline(always)]
pub fn repair(ctx: &TcContext, inner: &Inner, remote: RemoteChecksum) -> Option<()> {
    if remote.field < remote.start || remote.field + 2 > inner.length {
        return None;
    }
    let sum = sum(ctx, inner.offset + remote.start, inner.length - remote.start)?;
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !(((folded & 0xffff) + (folded >> 16)) as u16);
    // 0 would mean "no checksum" to UDP; its complement is the same number.
    let checksum = if checksum == 0 { 0xffff } else { checksum };
    ctx.store(inner.offset + remote.field, &checksum, 0).ok()
}

/// The 32-bit sum of `left` bytes from `offset` on, in the packet's byte order.
#[inline(always)]
fn sum(ctx: &TcContext, mut offset: usize, mut left: usize) -> Option<u32> {
    let mut chunk = MaybeUninit::<[u64; CHUNK / 8]>::uninit();
    let chunk = chunk.as_mut_ptr().cast::<u64>();
    let mut sum = 0;
    for _ in 0..CHUNKS {
        if left <= CHUNK {
            break;
        }
        sum = add(ctx, chunk, offset, CHUNK, sum)?;
        offset += CHUNK;
        left -= CHUNK;
    }
    // Before Linux 6.3 the verifier learns nothing from "not 0": the size must be one more than something bounded.
    let last = black_box(left.wrapping_sub(1));
    if last >= CHUNK {
        return None;
    }
    // The last chunk is summed with zeros after it.
    for word in 0..CHUNK / 8 {
        // SAFETY: inside the array. Volatile, or it would become a call that clears byte by byte.
        unsafe { chunk.add(word).write_volatile(0) };
    }
    add(ctx, chunk, offset, last + 1, sum)
}

/// Adds `size` bytes, 1 to [`CHUNK`], which are loaded to the front of `chunk`, and what is after them.
#[inline(always)]
fn add(ctx: &TcContext, chunk: *mut u64, offset: usize, size: usize, sum: u32) -> Option<u32> {
    // SAFETY: `chunk` points to CHUNK bytes, of which the first `size` are written; the rest is written already.
    unsafe {
        if bpf_skb_load_bytes(ctx.as_ptr(), offset as u32, chunk.cast(), size as u32) != 0 {
            return None;
        }
        Some(bpf_csum_diff(core::ptr::null_mut(), 0, chunk.cast(), CHUNK as u32, sum) as u32)
    }
}
