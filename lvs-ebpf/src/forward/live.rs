//! Whether a connection takes a packet at once, or the program `Schedule` decides.

use lvs_common::{
    abi::{Connection, IpAddress, Settings, conn_flags},
    state::{sctp, tcp},
    wire::protocol,
};

use crate::{
    config::destination::DestRef,
    packet::{
        access::Packet,
        control_block::{self, Flag},
    },
    table::find,
    values::parsed::Parsed,
};

/// The destination of a connection that takes this packet; `None` leaves the packet to the program `Schedule`.
#[inline(always)]
pub fn destination<P: Packet, A: IpAddress>(
    packet: P,
    p: &Parsed<A>,
    c: &Connection<A>,
    settings: &Settings,
    now: u64,
) -> Option<DestRef> {
    let dest = DestRef::get(c.dest, settings.epoch)?;
    if find::expired(c, now) || !dest.available() || may_reopen(packet, p, c, &dest, settings) {
        return None;
    }
    Some(dest)
}

/// Whether a packet may open a new connection in place of the existing one; the program `Schedule` decides.
#[inline(always)]
fn may_reopen<P: Packet, A: IpAddress>(
    packet: P,
    p: &Parsed<A>,
    c: &Connection<A>,
    dest: &DestRef,
    settings: &Settings,
) -> bool {
    if c.in_packets == 0 || control_block::has(packet, Flag::KeepsConnection) {
        return false;
    }
    if !p.opens() {
        return find::moves_on(c, dest, settings);
    }
    let state = (c.state & conn_flags::STATE) as u8;
    let is_closing = match p.protocol {
        protocol::TCP => state >= tcp::FIN_WAIT,
        _ => state == sctp::CLOSED,
    };
    is_closing || settings.sysctls.expire_nodest_conn != 0 && dest.config().weight == 0
}
