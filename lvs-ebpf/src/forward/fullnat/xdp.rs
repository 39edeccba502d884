//! FullNAT in XDP: packets of live connections that leave whole and carry no option about the client.

use lvs_common::{abi::EntryKind, exit::Exit};

use crate::{
    config::destination::DestRef,
    egress::{
        gate::{self, Passage},
        send,
    },
    exits,
    forward::{
        fullnat::{
            client_option,
            handover::{self, Matched},
            translate::{self, Ends},
        },
        nat,
    },
    kernel::clock,
    packet::{access::Packet, access::XdpPacket, parse::Family},
    table::account,
};

/// Forwards a client's packet.
#[inline(always)]
pub fn request<A: Family>(packet: XdpPacket) -> i32 {
    request_by::<A, false>(packet)
}

/// Forwards a real server's packet.
#[inline(always)]
pub fn reply<A: Family>(packet: XdpPacket) -> i32 {
    reply_by::<A, false>(packet)
}

/// Forwards a client's packet. `TAGS`: in the program for frames with VLANs' tags.
#[inline(always)]
pub fn request_by<A: Family, const TAGS: bool>(packet: XdpPacket) -> i32 {
    let Some(Matched { p, settings, at, connection }) = handover::load::<A>() else { return XdpPacket::PASS };
    let c = connection.get();
    if c.is_crossed() {
        return XdpPacket::PASS;
    }
    let Some(dest) = DestRef::get(c.dest, settings.epoch) else { return XdpPacket::PASS };
    let now = clock::jiffies();
    let changes_ports = p.source_port != c.local_port || p.destination_port != c.real_port;
    if client_option::concerns_request(packet, p, settings, connection) || !nat::possible(packet, p, changes_ports) {
        return XdpPacket::PASS;
    }
    let (to, family, cache) = (dest.address(), dest.family(), dest.hop());
    let passage = Passage::new(cache, family, to, None);
    let Some(hop) = gate::pass_fast::<A, TAGS>(packet, p, &passage, 0, now) else {
        return gate::leave_fast::<A, TAGS>(packet, cache);
    };
    account::account_request(packet, p, settings, at, connection, &dest, now);
    if !translate::apply(packet, p, &Ends::to_server(c), true) {
        return exits::drop(packet, Exit::DropInternal);
    }
    exits::leave(packet, Exit::FullNat, send::send_xdp::<TAGS>(packet, &hop))
}

/// Forwards a real server's packet, likewise.
#[inline(always)]
pub fn reply_by<A: Family, const TAGS: bool>(packet: XdpPacket) -> i32 {
    let Some(Matched { p, settings, at, connection }) = handover::load::<A>() else { return XdpPacket::PASS };
    let c = connection.get();
    if c.kind == EntryKind::CROSSED {
        return XdpPacket::PASS;
    }
    let Some(dest) = DestRef::get(c.dest, settings.epoch) else { return XdpPacket::PASS };
    let now = clock::jiffies();
    let changes_ports = p.source_port != c.virt_port || p.destination_port != c.client_port;
    // TC lowers the MSS of the real server's SYN, to leave room for the client's address.
    if client_option::concerns_reply(packet, p, settings, connection) || !nat::possible(packet, p, changes_ports) {
        return XdpPacket::PASS;
    }
    let cache = connection.reply_hop();
    let to = c.client.widen();
    let passage = Passage { from: Some(&c.virt), ..Passage::new(cache, A::FAMILY, &to, None) };
    let Some(hop) = gate::pass_fast::<A, TAGS>(packet, p, &passage, 0, now) else {
        return gate::leave_fast::<A, TAGS>(packet, cache);
    };
    account::account_reply(packet, p, settings, at, connection, &dest, now);
    if !translate::apply(packet, p, &Ends::to_client(c), true) {
        return exits::drop(packet, Exit::DropInternal);
    }
    exits::leave(packet, Exit::FullNatReply, send::send_xdp::<TAGS>(packet, &hop))
}
