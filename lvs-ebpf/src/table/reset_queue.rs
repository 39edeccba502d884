//! Connections that have expired and wait until both their ends are reset (`conn_expire_tcp_rst`).

use crate::packet::access::TcPacket;
use crate::packet::control_block::Flag;
use crate::packet::{access::Packet, control_block};
use crate::table::entry::Entry;
use crate::values::parsed::L3;
use crate::{
    kernel::{
        params,
        shared::{element, field},
    },
    maps::{RESETS4, RESETS6, SETTINGS},
    values::{parsed::Parsed, pending_reset::PendingReset},
};
use lvs_common::abi::IpAddress;
use lvs_common::{
    abi::{Connection, EntryKind, Mode, Settings, conn_flags},
    reset::Numbers,
    state::tcp,
    wire::{protocol, tcp_flags},
};

/// Seconds that an expired connection waits for a packet to carry its resets.
const PATIENCE: u32 = 30;

/// Puts a connection into the queue of its family.
#[inline(always)]
pub fn push<A: IpAddress>(waiting: &PendingReset) -> bool {
    let queue = if A::IS_V4 { &RESETS4 } else { &RESETS6 };
    queue.push(waiting, 0).is_ok()
}

/// Takes a connection from the queue of a family.
#[inline(always)]
pub fn pop<A: IpAddress>() -> Option<PendingReset> {
    let queue = if A::IS_V4 { &RESETS4 } else { &RESETS6 };
    queue.pop().ok()?
}

/// Whether connection `at`, which has expired at `now`, is kept until its ends are told.
#[inline(always)]
pub fn keep_for_reset<A: IpAddress>(at: u32, c: Entry<A>, now: u64) -> bool {
    let Some(settings) = element(&SETTINGS, 0) else { return false };
    let old = c.state;
    let wanted = settings.get().sysctls.conn_expire_tcp_rst != 0
        && c.kind == EntryKind::CONNECTION
        && c.protocol == protocol::TCP
        && old & (conn_flags::STATE | conn_flags::RESETTING | conn_flags::DEAD) == tcp::ESTABLISHED as u32
        && !matches!(c.forward, Mode::BYPASS | Mode::LOCAL)
        // Its ends are told in different families, which one packet cannot carry.
        && !c.is_crossed()
        && Numbers::of(c.engine).is_some();
    if !wanted || !push::<A>(&PendingReset { at, pad: 0, seen: now }) {
        return false;
    }
    if c.state_word().compare_exchange(old, old | conn_flags::RESETTING).is_ok() {
        c.touch(now);
        c.set_timeout(PATIENCE.wrapping_mul(params::hz()));
    }
    field!(settings.resets).fetch_or(bit::<A>());
    true
}

/// A family's bit of `Settings::resets`.
#[inline(always)]
pub const fn bit<A: IpAddress>() -> u32 {
    if A::IS_V4 { 1 } else { 2 }
}

/// Whether resets wait for a packet of this family.
#[inline(always)]
pub fn is_waiting<A: IpAddress>(settings: &Settings) -> bool {
    settings.resets & bit::<A>() != 0
}

/// Whether resets wait for a packet such as this one.
#[inline(always)]
pub fn are_pending_for<A: IpAddress>(p: &Parsed<A>, settings: &Settings) -> bool {
    is_waiting::<A>(settings) && p.carried == protocol::TCP
}

/// Whether a packet is the reset that a client of a connection without translation is to get.
#[inline(always)]
pub fn is_reset_of<A>(c: &Connection<A>, p: &Parsed<A>) -> bool {
    c.state & conn_flags::RESETTING != 0 && p.carried == protocol::TCP && p.flags & tcp_flags::RST != 0
}

/// Whether a packet is to carry resets.
#[inline(always)]
pub fn is_carrier<A: IpAddress>(packet: TcPacket, p: &Parsed<A>, settings: &Settings) -> bool {
    are_pending_for(p, settings)
        // Without options of IP: where an unfinished checksum is counted from stays the same.
        && p.l4() == L3 + A::HEADER
        && packet.device() != 0
        && packet.segment() == 0
        && !control_block::has(packet, Flag::CarriedResets)
}
