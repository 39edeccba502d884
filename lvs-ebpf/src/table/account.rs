//! Accounts a packet that is forwarded: the counters of its destination, and by `advance` its connection's state and times.

use crate::table::account;
use crate::table::announce::announce_packet;
use crate::table::entry::Entry;
use crate::{
    config::destination::DestRef,
    packet::access::Packet,
    stats,
    table::{advance::advance, store::Table},
    values::parsed::{L3, Parsed},
};
use lvs_common::abi::IpAddress;
use lvs_common::{
    abi::{Settings, afterwards},
    reset,
    table::Store,
    wire::{Tcp, protocol},
};

/// State, times and counts of a client's packet.
#[inline(always)]
pub fn account_request<P: Packet, A: IpAddress>(
    packet: P,
    p: &Parsed<A>,
    settings: &Settings,
    at: u32,
    connection: Entry<A>,
    dest: &DestRef,
    now: u64,
) where
    Table: Store<A>,
{
    // XDP sees no fragments.
    if P::SUMS_PAYLOAD && p.is_later_fragment() {
        return stats::rest_in(dest.id, p.length);
    }
    advance(at, connection, Some(dest), (p, false), settings, now);
    connection.count_request();
    stats::packet_in(dest.id, p.length);
    if settings.afterwards != 0 {
        account::afterwards(packet, p, settings, at, connection, now);
    }
}

/// What few directors want of a client's packet, after it is counted.
#[inline(always)]
pub fn afterwards<P: Packet, A: IpAddress>(
    packet: P,
    p: &Parsed<A>,
    settings: &Settings,
    at: u32,
    connection: Entry<A>,
    now: u64,
) where
    Table: Store<A>,
{
    if settings.afterwards & afterwards::RESETS != 0 && p.carried == protocol::TCP {
        account::record_for_reset(packet, p, connection);
    }
    if settings.afterwards & afterwards::ANNOUNCES != 0 {
        announce_packet::<A>(at, connection, settings, now);
    }
}

/// State, times and counts of a real server's packet.
#[inline(always)]
pub fn account_reply<P: Packet, A: IpAddress>(
    _: P,
    p: &Parsed<A>,
    settings: &Settings,
    at: u32,
    connection: Entry<A>,
    dest: &DestRef,
    now: u64,
) where
    Table: Store<A>,
{
    if P::SUMS_PAYLOAD && p.is_later_fragment() {
        if dest.available() {
            stats::rest_out(dest.id, p.length);
        }
        return;
    }
    advance(at, connection, Some(dest), (p, true), settings, now);
    if dest.available() {
        stats::packet_out(dest.id, p.length);
    }
}

/// Keeps in mind what a reset would need to know, with a client's packet.
#[inline(always)]
fn record_for_reset<P: Packet, A: IpAddress>(packet: P, p: &Parsed<A>, connection: Entry<A>) {
    let Some(h) = packet.read::<Tcp>(p.l4()) else { return };
    let headers = (p.l4() - L3) as u32 + (h.offset >> 4) as u32 * 4;
    let length = p.length.saturating_sub(headers);
    connection
        .update_reset_numbers(|word| reset::seen(word, h.flags, h.sequence.get(), h.acknowledgment.get(), length));
}
