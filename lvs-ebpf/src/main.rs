//! The LVS data plane: entry points. The packet's journey is `pipeline`: parse → track → schedule → rewrite → deliver.
#![no_std]
#![no_main]
#![allow(internal_features, reason = "core has no atomics for bpf but the intrinsics")]
#![allow(clippy::needless_borrows_for_generic_args, reason = "what is lent to a map is not copied to the stack first")]
#![feature(core_intrinsics)]
#![allow(missing_docs, reason = "a program has no public interface; items are documented where they need it")]

mod config;
mod egress;
mod exits;
mod forward;
mod kernel;
mod log;
mod maps;
mod packet;
mod programs;
mod rare;
mod select;
mod stats;
mod table;
mod upkeep;
mod values;

use aya_ebpf::{
    EbpfContext as _,
    bindings::{TC_ACT_OK, sk_action::SK_PASS},
    macros::{classifier, sk_lookup, xdp},
    programs::{SkLookupContext, TcContext, XdpContext},
};
use lvs_common::byte_order::Be16;
use lvs_common::wire::{Ethernet, ethertype};

use crate::{
    packet::{access::Packet, tc::TcPacket, xdp::XdpPacket},
    programs::{Tail, jump},
};

type V4 = u32;
type V6 = [u32; 4];

/// Ethertype of the frame; 0 if it is too short to have one.
#[inline(always)]
fn ethertype_of<P: Packet>(packet: P) -> Be16 {
    // SAFETY: checked by `at`.
    packet.at::<Ethernet>(0).map_or(Be16::ZERO, |h| unsafe { (*h).ethertype })
}

#[xdp]
pub fn lvs_xdp(ctx: XdpContext) -> u32 {
    let packet = XdpPacket(ctx.ctx);
    let verdict = match ethertype_of(packet) {
        ethertype::IPV4 => forward::pipeline::run::<V4>(packet),
        ethertype::IPV6 => jump(packet, Tail::Ipv6),
        _ => XdpPacket::PASS,
    };
    verdict as u32
}

#[xdp]
pub fn lvs_xdp6(ctx: XdpContext) -> u32 {
    forward::pipeline::run::<V6>(XdpPacket(ctx.ctx)) as u32
}

#[xdp]
pub fn lvs_xdp_new4(ctx: XdpContext) -> u32 {
    select::schedule::run::<_, V4>(XdpPacket(ctx.ctx)) as u32
}

#[xdp]
pub fn lvs_xdp_new6(ctx: XdpContext) -> u32 {
    select::schedule::run::<_, V6>(XdpPacket(ctx.ctx)) as u32
}

#[xdp]
pub fn lvs_xdp_pick(ctx: XdpContext) -> u32 {
    select::schedule::pick(XdpPacket(ctx.ctx)) as u32
}

#[xdp]
pub fn lvs_xdp_open4(ctx: XdpContext) -> u32 {
    select::schedule::open::<_, V4>(XdpPacket(ctx.ctx)) as u32
}

#[xdp]
pub fn lvs_xdp_open6(ctx: XdpContext) -> u32 {
    select::schedule::open::<_, V6>(XdpPacket(ctx.ctx)) as u32
}

#[xdp]
pub fn lvs_xdp_claim4(ctx: XdpContext) -> u32 {
    forward::fullnat::open::claim::<_, V4>(XdpPacket(ctx.ctx)) as u32
}

#[xdp]
pub fn lvs_xdp_claim6(ctx: XdpContext) -> u32 {
    forward::fullnat::open::claim::<_, V6>(XdpPacket(ctx.ctx)) as u32
}

#[xdp]
pub fn lvs_xdp_enter4(ctx: XdpContext) -> u32 {
    forward::fullnat::open::enter::<_, V4>(XdpPacket(ctx.ctx)) as u32
}

#[xdp]
pub fn lvs_xdp_enter6(ctx: XdpContext) -> u32 {
    forward::fullnat::open::enter::<_, V6>(XdpPacket(ctx.ctx)) as u32
}

#[xdp]
pub fn lvs_xdp_fullnat4(ctx: XdpContext) -> u32 {
    forward::fullnat::serve::forward::<_, V4>(XdpPacket(ctx.ctx)) as u32
}

#[xdp]
pub fn lvs_xdp_fullnat6(ctx: XdpContext) -> u32 {
    forward::fullnat::serve::forward::<_, V6>(XdpPacket(ctx.ctx)) as u32
}

#[xdp]
pub fn lvs_xdp_fullnat_reply4(ctx: XdpContext) -> u32 {
    forward::fullnat::serve::answer::<_, V4>(XdpPacket(ctx.ctx)) as u32
}

#[xdp]
pub fn lvs_xdp_fullnat_reply6(ctx: XdpContext) -> u32 {
    forward::fullnat::serve::answer::<_, V6>(XdpPacket(ctx.ctx)) as u32
}

#[xdp]
pub fn lvs_xdp_challenge4(ctx: XdpContext) -> u32 {
    select::challenge::run::<_, V4>(XdpPacket(ctx.ctx)) as u32
}

#[xdp]
pub fn lvs_xdp_challenge6(ctx: XdpContext) -> u32 {
    select::challenge::run::<_, V6>(XdpPacket(ctx.ctx)) as u32
}

#[xdp]
pub fn lvs_xdp_log(ctx: XdpContext) -> u32 {
    log::run(XdpPacket(ctx.ctx)) as u32
}

/// The packet of a TC program.
#[inline(always)]
fn tc(ctx: &TcContext) -> TcPacket {
    TcPacket(ctx.as_ptr().cast())
}

/// Where TC begins, in both directions.
#[inline(always)]
fn enter(packet: TcPacket) -> i32 {
    packet::control_block::clear(packet);
    match ethertype_of(packet) {
        ethertype::IPV4 => jump(packet, Tail::Ipv4),
        ethertype::IPV6 => jump(packet, Tail::Ipv6),
        _ => TC_ACT_OK,
    }
}

#[classifier]
pub fn lvs_ingress(ctx: TcContext) -> i32 {
    let packet = tc(&ctx);
    if packet.tagged() {
        return TC_ACT_OK;
    }
    enter(packet)
}

/// Only what the director itself sends, once: what it forwards has been served when it came in.
#[classifier]
pub fn lvs_egress(ctx: TcContext) -> i32 {
    let packet = tc(&ctx);
    if packet.device() != 0 || packet.is_served() {
        return TC_ACT_OK;
    }
    enter(packet)
}

#[classifier]
pub fn lvs_tc4(ctx: TcContext) -> i32 {
    forward::pipeline::read::<V4>(tc(&ctx))
}

#[classifier]
pub fn lvs_serve4(ctx: TcContext) -> i32 {
    forward::pipeline::serve_left::<V4>(tc(&ctx))
}

#[classifier]
pub fn lvs_serve6(ctx: TcContext) -> i32 {
    forward::pipeline::serve_left::<V6>(tc(&ctx))
}

#[classifier]
pub fn lvs_reply4(ctx: TcContext) -> i32 {
    forward::pipeline::answer::<V4>(tc(&ctx))
}

#[classifier]
pub fn lvs_reply6(ctx: TcContext) -> i32 {
    forward::pipeline::answer::<V6>(tc(&ctx))
}

#[classifier]
pub fn lvs_tunnel4(ctx: TcContext) -> i32 {
    forward::pipeline::tunnel::<V4>(tc(&ctx))
}

#[classifier]
pub fn lvs_tunnel6(ctx: TcContext) -> i32 {
    forward::pipeline::tunnel::<V6>(tc(&ctx))
}

#[classifier]
pub fn lvs_once4(ctx: TcContext) -> i32 {
    select::schedule::once::<_, V4>(tc(&ctx))
}

#[classifier]
pub fn lvs_once6(ctx: TcContext) -> i32 {
    select::schedule::once::<_, V6>(tc(&ctx))
}

#[classifier]
pub fn lvs_tc6(ctx: TcContext) -> i32 {
    forward::pipeline::read::<V6>(tc(&ctx))
}

#[classifier]
pub fn lvs_new4(ctx: TcContext) -> i32 {
    select::schedule::run::<_, V4>(tc(&ctx))
}

#[classifier]
pub fn lvs_new6(ctx: TcContext) -> i32 {
    select::schedule::run::<_, V6>(tc(&ctx))
}

#[classifier]
pub fn lvs_pick(ctx: TcContext) -> i32 {
    select::schedule::pick(tc(&ctx))
}

#[classifier]
pub fn lvs_open4(ctx: TcContext) -> i32 {
    select::schedule::open::<_, V4>(tc(&ctx))
}

#[classifier]
pub fn lvs_open6(ctx: TcContext) -> i32 {
    select::schedule::open::<_, V6>(tc(&ctx))
}

#[classifier]
pub fn lvs_icmp4(ctx: TcContext) -> i32 {
    rare::icmp::serve::run::<V4>(tc(&ctx))
}

#[classifier]
pub fn lvs_icmp6(ctx: TcContext) -> i32 {
    rare::icmp::serve::run::<V6>(tc(&ctx))
}

#[classifier]
pub fn lvs_icmp_tunnel4(ctx: TcContext) -> i32 {
    rare::icmp::tunnel::run::<V4>(tc(&ctx))
}

#[classifier]
pub fn lvs_icmp_tunnel6(ctx: TcContext) -> i32 {
    rare::icmp::tunnel::run::<V6>(tc(&ctx))
}

#[classifier]
pub fn lvs_reject4(ctx: TcContext) -> i32 {
    rare::reject::run::<V4>(tc(&ctx))
}

#[classifier]
pub fn lvs_reject6(ctx: TcContext) -> i32 {
    rare::reject::run::<V6>(tc(&ctx))
}

#[classifier]
pub fn lvs_fragment4(ctx: TcContext) -> i32 {
    rare::fragment::assemble::run::<V4>(tc(&ctx))
}

#[classifier]
pub fn lvs_fragment6(ctx: TcContext) -> i32 {
    rare::fragment::assemble::run::<V6>(tc(&ctx))
}

#[classifier]
pub fn lvs_split(ctx: TcContext) -> i32 {
    rare::fragment::split::run(tc(&ctx))
}

#[classifier]
pub fn lvs_bypass4(ctx: TcContext) -> i32 {
    forward::bypass::run::<V4>(tc(&ctx))
}

#[classifier]
pub fn lvs_bypass6(ctx: TcContext) -> i32 {
    forward::bypass::run::<V6>(tc(&ctx))
}

#[classifier]
pub fn lvs_claim4(ctx: TcContext) -> i32 {
    forward::fullnat::open::claim::<_, V4>(tc(&ctx))
}

#[classifier]
pub fn lvs_claim6(ctx: TcContext) -> i32 {
    forward::fullnat::open::claim::<_, V6>(tc(&ctx))
}

#[classifier]
pub fn lvs_enter4(ctx: TcContext) -> i32 {
    forward::fullnat::open::enter::<_, V4>(tc(&ctx))
}

#[classifier]
pub fn lvs_enter6(ctx: TcContext) -> i32 {
    forward::fullnat::open::enter::<_, V6>(tc(&ctx))
}

#[classifier]
pub fn lvs_tell4(ctx: TcContext) -> i32 {
    forward::fullnat::toa::tell::<V4>(tc(&ctx))
}

#[classifier]
pub fn lvs_tell6(ctx: TcContext) -> i32 {
    forward::fullnat::toa::tell::<V6>(tc(&ctx))
}

#[classifier]
pub fn lvs_room4(ctx: TcContext) -> i32 {
    forward::fullnat::toa::room::<V4>(tc(&ctx))
}

#[classifier]
pub fn lvs_room6(ctx: TcContext) -> i32 {
    forward::fullnat::toa::room::<V6>(tc(&ctx))
}

#[classifier]
pub fn lvs_reset4(ctx: TcContext) -> i32 {
    rare::reset::run::<V4>(tc(&ctx))
}

#[classifier]
pub fn lvs_reset6(ctx: TcContext) -> i32 {
    rare::reset::run::<V6>(tc(&ctx))
}

#[classifier]
pub fn lvs_fullnat4(ctx: TcContext) -> i32 {
    forward::fullnat::serve::forward::<_, V4>(tc(&ctx))
}

#[classifier]
pub fn lvs_fullnat6(ctx: TcContext) -> i32 {
    forward::fullnat::serve::forward::<_, V6>(tc(&ctx))
}

#[classifier]
pub fn lvs_fullnat_reply4(ctx: TcContext) -> i32 {
    forward::fullnat::serve::answer::<_, V4>(tc(&ctx))
}

#[classifier]
pub fn lvs_fullnat_reply6(ctx: TcContext) -> i32 {
    forward::fullnat::serve::answer::<_, V6>(tc(&ctx))
}

#[classifier]
pub fn lvs_challenge4(ctx: TcContext) -> i32 {
    select::challenge::run::<_, V4>(tc(&ctx))
}

#[classifier]
pub fn lvs_challenge6(ctx: TcContext) -> i32 {
    select::challenge::run::<_, V6>(tc(&ctx))
}

#[classifier]
pub fn lvs_cross4(ctx: TcContext) -> i32 {
    forward::families::serve::forward::<V4, V6>(tc(&ctx))
}

#[classifier]
pub fn lvs_cross6(ctx: TcContext) -> i32 {
    forward::families::serve::forward::<V6, V4>(tc(&ctx))
}

#[classifier]
pub fn lvs_cross_reply4(ctx: TcContext) -> i32 {
    forward::families::serve::answer::<V4, V6>(tc(&ctx))
}

#[classifier]
pub fn lvs_cross_reply6(ctx: TcContext) -> i32 {
    forward::families::serve::answer::<V6, V4>(tc(&ctx))
}

#[classifier]
pub fn lvs_cross_icmp4(ctx: TcContext) -> i32 {
    rare::icmp::families::run::<V4, V6>(tc(&ctx))
}

#[classifier]
pub fn lvs_cross_icmp6(ctx: TcContext) -> i32 {
    rare::icmp::families::run::<V6, V4>(tc(&ctx))
}

#[classifier]
pub fn lvs_crossed_icmp4(ctx: TcContext) -> i32 {
    rare::icmp::families::crossed::<V4>(tc(&ctx))
}

#[classifier]
pub fn lvs_crossed_icmp6(ctx: TcContext) -> i32 {
    rare::icmp::families::crossed::<V6>(tc(&ctx))
}

#[classifier]
pub fn lvs_log(ctx: TcContext) -> i32 {
    log::run(tc(&ctx))
}

/// Lets every socket look-up go on as without it. A link of this type tells when its network namespace is gone, where the
/// kernel has none for TC.
#[sk_lookup]
pub fn lvs_alive(_: SkLookupContext) -> u32 {
    SK_PASS
}

/// Not attached anywhere: `lvsadm` runs it once to start the sweep.
#[classifier]
pub fn lvs_start(_: TcContext) -> i32 {
    upkeep::expire::start()
}

/// Not attached anywhere: see the module.
#[classifier]
pub fn lvs_end(ctx: TcContext) -> i32 {
    upkeep::drain::run(tc(&ctx))
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
