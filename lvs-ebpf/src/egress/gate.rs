//! The gate.

use crate::egress::route;
use crate::egress::send;
use crate::packet::access::Packet;
use crate::packet::parse::Family;
use crate::packet::tc::TcPacket;
use crate::values::parsed::Parsed;

/// Whether an IP packet of `length` bytes, `headers` of them network and transport headers, can leave through a hop with
/// this MTU; one that is to be cut into segments on the way out is judged by those.
#[inline(always)]
pub fn fits<P: Packet>(packet: P, length: u32, headers: u32, mtu: u32) -> bool {
    match packet.segment() {
        0 => length <= mtu,
        segment => segment.wrapping_add(headers) <= mtu,
    }
}

/// Sends it, from the virtual address, which the stack would not do.
#[inline(always)]
pub fn send_by_header<A: Family>(packet: TcPacket, p: &Parsed<A>, now: u64) -> Option<i32> {
    let route = route::scratch()?;
    if !route::route(packet, A::FAMILY, &p.destination.widen(), now, route) {
        return None;
    }
    Some(if route.local { send::send_local(packet) } else { send::send_tc(packet, route) })
}
