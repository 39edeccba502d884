//! Whether a packet's existing connection takes the packet, is replaced, or has the packet dropped: reused ports, deleted
//! destinations.

use crate::table::entry::Entry;
use lvs_common::abi::IpAddress;
use lvs_common::{
    abi::{Connection, Settings, conn_flags},
    state::{sctp, tcp},
    wire::protocol,
};

use crate::{config::destination::DestRef, table::find, values::parsed::Parsed};

/// What becomes of a packet's existing connection.
pub enum Verdict {
    /// It takes the packet.
    Keep,
    /// The packet is dropped.
    Drop,
    /// It is to be taken out, and the packet may open a new one.
    Replace,
}

/// Decides whether an existing connection takes the packet, in IPVS's order.
#[inline(always)]
pub fn judge<A: IpAddress>(p: &Parsed<A>, settings: &Settings, connection: Entry<A>, now: u64) -> Verdict {
    let c = connection.get();
    if find::is_bypass(c) {
        return if find::expired(c, now) { Verdict::Replace } else { Verdict::Keep };
    }
    let Some(dest) = DestRef::get(c.dest, settings.epoch) else { return Verdict::Drop };
    if find::expired(c, now) && c.controlled == 0 {
        return Verdict::Replace;
    }
    let renew = settings.sysctls.expire_nodest_conn != 0;
    // One that was made a moment ago for this very packet is not opened again.
    if p.opens() && c.in_packets != 0 {
        let again = renew && dest.config().weight == 0 || c.control.is_none() && may_reuse(c, p, settings);
        if again && c.controlled == 0 {
            return Verdict::Replace;
        }
    }
    if find::moves_on(c, &dest, settings) {
        return Verdict::Replace;
    }
    match (dest.available(), renew) {
        (true, _) => Verdict::Keep,
        (false, true) => Verdict::Replace,
        (false, false) => Verdict::Drop,
    }
}

/// Whether a new request may replace a connection in this state (`conn_reuse_mode`).
#[inline(always)]
fn may_reuse<A>(c: &Connection<A>, p: &Parsed<A>, settings: &Settings) -> bool {
    let mode = settings.sysctls.conn_reuse_mode;
    let state = (c.state & conn_flags::STATE) as u8;
    mode != 0
        && match p.protocol {
            protocol::TCP => {
                state == tcp::TIME_WAIT
                    || state == tcp::CLOSE
                    || mode & 2 != 0 && state == tcp::FIN_WAIT && c.state & conn_flags::NO_OUTPUT != 0
            }
            protocol::SCTP => state == sctp::CLOSED,
            _ => false,
        }
}
