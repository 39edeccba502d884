//! FullNAT in TC.

use lvs_common::abi::DestId;
use lvs_common::{abi::EntryKind, exit::Exit, programs::Program};

use crate::{
    config::destination::DestRef,
    egress::{
        gate::{self, Limits, Passage, Way},
        refuse::Sender,
        route, send,
        split::split,
    },
    exits,
    forward::fullnat::{
        client_option,
        handover::{self, Matched},
        options,
        translate::{self, Ends},
    },
    kernel::clock,
    packet::{
        access::Packet,
        access::TcPacket,
        control_block::{self, Flag},
        parse::Family,
    },
    programs::jump,
    stats,
    table::account,
};

/// Forwards a client's packet. The program for options comes back here.
#[inline(always)]
pub fn request<A: Family>(packet: TcPacket) -> i32 {
    let Some(Matched { p, settings, at, connection }) = handover::load::<A>() else { return TcPacket::PASS };
    let c = connection.get();
    if c.is_crossed() {
        return jump::<A, _>(packet, Program::Families);
    }
    let Some(dest) = DestRef::get(c.dest, settings.epoch) else { return TcPacket::PASS };
    let now = clock::jiffies();
    let has_option = client_option::concerns_request(packet, p, settings, connection);
    let is_first_time = !control_block::has(packet, Flag::OptionsDone);
    if is_first_time {
        account::account_request(packet, p, settings, at, connection, &dest, now);
    }
    let (to, family, cache) = (dest.address(), dest.family(), dest.hop());
    let passage = Passage { server: Some(&dest), ..Passage::<A>::new(cache, family, to, Some(Sender::VIP)) };
    route::with(
        packet,
        #[inline(always)]
        |route| {
            match gate::find_hop(packet, p, &passage, now, route) {
                Ok(Way::Stack) => {
                    if !translate::apply(packet, p, &Ends::to_server(c), false) {
                        return exits::drop(packet, Exit::DropInternal);
                    }
                    return send::hand_over(packet, true);
                }
                Ok(way) if way.is_own() => {}
                // The address has become the director's own since the connection was made.
                Ok(_) => return exits::drop(packet, Exit::DropNoRoute),
                Err(verdict) => return verdict,
            }
            if has_option && is_first_time {
                return jump::<A, _>(packet, Program::AddClientOption);
            }
            let mtu = route.hop.mtu as u32;
            let reported = mtu.saturating_sub(options::added(c, settings));
            let limits = Limits { room: mtu, reported, may_fragment: !p.df };
            let way = match gate::fit(packet, p, &passage, limits, route) {
                Ok(way) => way,
                Err(verdict) => return verdict,
            };
            if !translate::apply(packet, p, &Ends::to_server(c), way.is_own() && packet.device() != 0) {
                return exits::drop(packet, Exit::DropInternal);
            }
            match way {
                Way::Fragments(most) => {
                    stats::exit(Exit::FullNat);
                    split(packet, dest.id, most)
                }
                Way::Stack => send::hand_over(packet, true),
                _ => exits::leave(packet, Exit::FullNat, send::send_tc(packet, route)),
            }
        },
    )
}

/// Forwards a real server's packet. The program for options comes back here.
#[inline(always)]
pub fn reply<A: Family>(packet: TcPacket) -> i32 {
    let Some(Matched { p, settings, at, connection }) = handover::load::<A>() else { return TcPacket::PASS };
    let c = connection.get();
    if c.kind == EntryKind::CROSSED {
        return jump::<A, _>(packet, Program::FamiliesReply);
    }
    let Some(dest) = DestRef::get(c.dest, settings.epoch) else { return TcPacket::PASS };
    let now = clock::jiffies();
    let is_syn = client_option::concerns_reply(packet, p, settings, connection);
    if is_syn && !control_block::has(packet, Flag::OptionsDone) {
        return jump::<A, _>(packet, Program::ClampMss);
    }
    let cache = connection.reply_hop();
    let to = c.client.widen();
    let passage = Passage { from: Some(&c.virt), ..Passage::new(cache, A::FAMILY, &to, Some(Sender::toward(dest.id))) };
    route::with(
        packet,
        #[inline(always)]
        |route| {
            let way = match gate::pass(packet, p, &passage, |mtu| Limits::new(mtu, 0, !p.df), now, route) {
                Ok(way) => way,
                Err(verdict) => return verdict,
            };
            account::account_reply(packet, p, settings, at, connection, &dest, now);
            if !translate::apply(packet, p, &Ends::to_client(c), way.is_own()) {
                return exits::drop(packet, Exit::DropInternal);
            }
            let verdict = match way {
                Way::Fragments(most) => {
                    stats::exit(Exit::FullNatReply);
                    return split(packet, DestId::NONE, most);
                }
                Way::Local | Way::Stack => send::send_local(packet),
                Way::Whole => send::send_tc(packet, route),
            };
            exits::leave(packet, Exit::FullNatReply, verdict)
        },
    )
}
