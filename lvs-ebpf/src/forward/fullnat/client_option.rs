//! Whether a packet has to do with the options that carry the client's address to the real server (TOA, UOA), and what it changes
//! in the connection's state of that. XDP leaves such packets to TC.

use crate::table::entry::Entry;
use crate::{
    forward::fullnat::{options, uoa},
    packet::access::Packet,
    values::parsed::Parsed,
};
use lvs_common::{
    abi::{Connection, IpAddress, Settings},
    fullnat::{ToaAction, after_reply, after_request, toa_action, toa_state},
    wire::tcp_flags,
};

/// What a client's packet means for TOA, or UOA: whether it has to do with it at all.
#[inline(always)]
pub fn concerns_request<P: Packet, A: IpAddress>(
    packet: P,
    p: &Parsed<A>,
    settings: &Settings,
    connection: Entry<A>,
) -> bool {
    let c = connection.get();
    if is_settled(p, c) {
        return false;
    }
    let Some(segment) = options::segment(packet, p) else { return uoa::concerns(p, settings, c) };
    let now = after_request(c.toa_state, &segment);
    if now != c.toa_state {
        connection.set_toa_state(now);
    }
    toa_action(now, settings.sysctls.toa, c.first, &segment) != ToaAction::Leave
}

/// Whether TOA is a thing of the past for a connection, and this packet is not to begin another one.
#[inline(always)]
fn is_settled<A: IpAddress>(p: &Parsed<A>, c: &Connection<A>) -> bool {
    c.toa_state >= toa_state::SETTLED && p.flags & tcp_flags::SYN == 0
}

/// What a real server's packet means for TOA: whether it is its SYN.
#[inline(always)]
pub fn concerns_reply<P: Packet, A: IpAddress>(
    packet: P,
    p: &Parsed<A>,
    settings: &Settings,
    connection: Entry<A>,
) -> bool {
    let c = connection.get();
    if is_settled(p, c) {
        return false;
    }
    let Some(segment) = options::segment(packet, p) else { return false };
    let (toa_state, first) = after_reply(c.toa_state, c.first, &segment);
    if (toa_state, first) != (c.toa_state, c.first) {
        // Segments on two CPUs at once are those of a connection that opens, or none that matters.
        connection.set_first_sequence(first);
        connection.set_toa_state(toa_state);
    }
    segment.flags & tcp_flags::SYN != 0 && settings.sysctls.toa != 0
}
