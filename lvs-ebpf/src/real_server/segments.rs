//! Datagrams that came in one buffer (`UDP_SEGMENT`), in a tunnel over UDP.
//!
//! Between network namespaces of one machine the buffer arrives uncut. Without its outer headers, the kernel would cut it along them
//! all the same, as no program can take the mark of a UDP tunnel from it: no datagram would arrive. But `lo`, which takes no buffers
//! of tunnels, has the kernel cut it as it is. The pieces come in again where the buffer did.

use aya_ebpf::bindings::{BPF_F_INGRESS, TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::programs::TcContext;
use lvs_common::wire::protocol;

use crate::inner::Inner;
use crate::outer::{Outer, fields};

/// Index of `lo` in every network namespace.
const LOOPBACK: u32 = 1;

/// Whether a packet is a buffer that must be cut while it has its outer headers.
#[inline(always)]
pub fn is_buffer(ctx: &TcContext, outer: &Outer, inner: &Inner) -> bool {
    fields(ctx).gso_size != 0 && outer.protocol == protocol::UDP && inner.protocol == protocol::UDP
}

/// Sends a buffer through `lo`; its mark says where it came in.
#[inline(always)]
pub fn cut(ctx: &mut TcContext) -> i32 {
    ctx.set_mark(fields(ctx).ifindex);
    // SAFETY: a helper that takes numbers.
    unsafe { bpf_redirect(LOOPBACK, 0) as i32 }
}

/// Lets a piece that came out of `lo` in again where its buffer did.
#[inline(always)]
pub fn come_in(ctx: &mut TcContext) -> i32 {
    match ctx.load::<[u16; 3]>(0) {
        // What the host sends itself has no address of a device.
        Ok([0, 0, 0]) => return TC_ACT_UNSPEC,
        Ok(_) => {}
        Err(_) => return TC_ACT_SHOT,
    }
    let device = fields(ctx).mark;
    ctx.set_mark(0);
    // SAFETY: a helper that takes numbers.
    unsafe { bpf_redirect(device, BPF_F_INGRESS.into()) as i32 }
}
