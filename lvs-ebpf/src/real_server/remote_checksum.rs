//! Remote checksum offload: the sender left the inner transport checksum to this end.

use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::{bpf_csum_diff, bpf_skb_load_bytes};
use aya_ebpf::programs::TcContext;

use crate::inner::Inner;
use crate::tunnel::RemoteChecksum;

/// Bytes summed at a time.
const CHUNK: usize = 256;
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

/// The 32-bit sum of `length` bytes from `offset` on, in the packet's byte order.
#[inline(always)]
fn sum(ctx: &TcContext, offset: usize, length: usize) -> Option<u32> {
    let mut chunk = MaybeUninit::<[u32; CHUNK / 4]>::zeroed();
    let bytes = chunk.as_mut_ptr();
    let (mut sum, mut at) = (0u32, 0usize);
    for _ in 0..CHUNKS {
        if at >= length {
            return Some(sum);
        }
        let mut size = length - at;
        if size >= CHUNK {
            size = CHUNK;
        } else {
            // The last chunk is summed with zeros behind it.
            // SAFETY: `bytes` points to an array of this type.
            unsafe { bytes.write([0; CHUNK / 4]) };
        }
        // SAFETY: `size` is at most the array's, and the helpers only read and write that much.
        unsafe {
            if bpf_skb_load_bytes(ctx.as_ptr(), (offset + at) as u32, bytes.cast(), size as u32) != 0 {
                return None;
            }
            sum = bpf_csum_diff(core::ptr::null_mut(), 0, bytes.cast(), CHUNK as u32, sum) as u32;
        }
        at += CHUNK;
    }
    None
}
