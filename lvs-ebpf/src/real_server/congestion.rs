//! Congestion notification across the tunnel (RFC 6040).

use aya_ebpf::programs::TcContext;
use lvs_common::abi::AF_INET;

use crate::inner::Inner;

/// Passes a mark of the outer header on to the inner one; `false` if the inner packet cannot carry it and must be dropped.
#[inline(always)]
pub fn mark(ctx: &TcContext, inner: &Inner) -> bool {
    const CONGESTED: u8 = 3;
    match inner.ecn {
        0 => return false,
        CONGESTED => return true,
        _ => {}
    }
    let marked = if inner.family == AF_INET { mark_v4(ctx, inner.offset) } else { mark_v6(ctx, inner.offset) };
    marked.is_some()
}

#[inline(always)]
fn mark_v4(ctx: &TcContext, offset: usize) -> Option<()> {
    let old: u16 = ctx.load(offset).ok()?;
    let new = old | 0x0003u16.to_be();
    ctx.store(offset, &new, 0).ok()?;
    ctx.l3_csum_replace(offset + 10, old.into(), new.into(), 2).ok()
}

#[inline(always)]
fn mark_v6(ctx: &TcContext, offset: usize) -> Option<()> {
    let old: u16 = ctx.load(offset).ok()?;
    ctx.store(offset, &(old | 0x0030u16.to_be()), 0).ok()
}
