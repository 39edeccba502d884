//! The program `Tagged`: packets of known connections that come in, or leave, with a VLAN's tag. XDP runs on the device that carries the
//! VLAN. A packet that opens a connection, or that XDP cannot finish, goes up with its tag, and TC serves it on the VLAN's device.

use lvs_common::{abi::VlanKey, exit::Exit};

use crate::{
    exits,
    forward::xdp,
    kernel::shared::value,
    maps::VLANS,
    packet::{
        access::{Packet, XdpPacket},
        parse::Family,
        tag::{self, Tag},
    },
};

/// Serves a frame, with a tag or without.
#[inline(always)]
pub fn run<A: Family>(packet: XdpPacket) -> i32 {
    let Some(tag) = Tag::read(packet) else {
        return xdp::receive_by::<A, true>(packet, || packet.for_this_host());
    };
    let key = VlanKey { parent: packet.device(), vlan: tag.vlan() };
    if !value(&VLANS, &key).is_some_and(|vlan| packet.is_for(vlan.get().mac)) {
        return XdpPacket::PASS;
    }
    if !tag::take_out(packet) {
        return exits::drop(packet, Exit::DropInternal);
    }
    match xdp::receive_by::<A, true>(packet, || true) {
        XdpPacket::PASS if !tag.put_in(packet) => exits::drop(packet, Exit::DropInternal),
        verdict => verdict,
    }
}
