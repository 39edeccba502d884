//! FullNAT between families: a client of IPv6 and a real server of IPv4, or the other way round (RFC 7915, with the state of
//! RFC 6146 that FullNAT has anyway). Only in TC, where the kernel changes a packet's family; XDP hands such packets up.
//!
//! The connection is one of its client's family, and what goes to the real server becomes one of the other family last of
//! all. A reply is found by an alias in the table of its own family. It becomes a packet of the client's family first, one
//! without addresses, and from there on takes the way of all replies.

use lvs_common::{
    abi::{Address, IpAddress},
    cross,
    exit::Exit,
    programs::Program,
};

use crate::{
    config::destination::DestRef,
    egress::{
        gate::{self, Limits, Passage, Way},
        refuse::Sender,
        route, send,
        split::split,
    },
    exits,
    forward::{
        families::translate,
        fullnat::{
            self, client_option,
            handover::{self, Matched},
            options,
            translate::Ends,
        },
    },
    kernel::clock,
    packet::{
        access::Packet,
        access::TcPacket,
        control_block::{self, Flag},
        handover as parsed_handover, jumbo,
        parse::Family,
    },
    programs::jump,
    stats,
    table::{account, alias},
    values::parsed::{L3, Parsed},
};

/// Whether the transport header follows the network header at once, or after nothing but a length.
#[inline(always)]
fn has_no_options<A: IpAddress>(p: &Parsed<A>) -> bool {
    p.l4() == L3 + A::HEADER || jumbo::is_jumbo(p)
}

/// What a next hop with this MTU takes of a packet that becomes one of the other family; `added` is what options add to it there.
#[inline(always)]
fn limits<A: IpAddress>(p: &Parsed<A>, mtu: u32, added: u32) -> Limits {
    Limits {
        room: cross::room(A::IS_V4, mtu),
        reported: cross::reported_mtu(A::IS_V4, mtu, added),
        may_fragment: cross::may_be_cut(A::IS_V4, p.length, p.df),
    }
}

/// Forwards a client's packet to a real server of the other family. The program for options comes back here.
#[inline(always)]
pub fn request<A: Family>(packet: TcPacket) -> i32 {
    let Some(Matched { p, settings, at, connection }) = handover::load::<A>() else { return TcPacket::PASS };
    let c = connection.get();
    let Some(dest) = DestRef::get(c.dest, settings.epoch) else { return TcPacket::PASS };
    let now = clock::jiffies();
    let has_option = client_option::concerns_request(packet, p, settings, connection);
    let is_first_time = !control_block::has(packet, Flag::OptionsDone);
    if is_first_time {
        account::account_request(packet, p, settings, at, connection, &dest, now);
    }
    if !has_no_options(p) {
        return exits::drop(packet, Exit::DropUntranslatable);
    }
    let (to, family, cache) = (dest.address(), dest.family(), dest.hop());
    let passage = Passage { server: Some(&dest), ..Passage::<A>::new(cache, family, to, Some(Sender::VIP)) };
    route::with(
        packet,
        #[inline(always)]
        |route| {
            match gate::find_hop(packet, p, &passage, now, route) {
                Ok(Way::Stack) => {
                    let Some(ends) = translate::ends(c, &dest) else { return exits::drop(packet, Exit::DropInternal) };
                    if !translate::apply(packet, p, &ends, false) {
                        return exits::drop(packet, Exit::DropInternal);
                    }
                    return send::hand_over(packet, true);
                }
                Ok(way) if way.is_own() => {}
                Ok(_) => return exits::drop(packet, Exit::DropNoRoute),
                Err(verdict) => return verdict,
            }
            if has_option && is_first_time {
                return jump::<A, _>(packet, Program::AddClientOption);
            }
            let limits = limits(p, route.hop.mtu as u32, options::added(c, settings));
            let way = match gate::fit(packet, p, &passage, limits, route) {
                Ok(way) => way,
                Err(verdict) => return verdict,
            };
            let Some(ends) = translate::ends(c, &dest) else { return exits::drop(packet, Exit::DropInternal) };
            if !translate::apply(packet, p, &ends, packet.device() != 0) {
                return exits::drop(packet, Exit::DropInternal);
            }
            if let Way::Fragments(most) = way {
                stats::exit(Exit::FullNat);
                return split(packet, dest.id, most);
            }
            exits::leave(packet, Exit::FullNat, send::send_tc(packet, route))
        },
    )
}

/// Makes a real server's packet one of the client's family, without addresses. From there it goes the way of every reply.
#[inline(always)]
pub fn reply<A: Family>(packet: TcPacket) -> i32 {
    let Some(Matched { p, settings, at, connection: entry }) = handover::load::<A>() else { return TcPacket::PASS };
    let Some((main, connection)) = alias::connection_of::<A, A::Other>(at, entry.get()) else {
        return TcPacket::PASS;
    };
    let (c, cache) = (connection.get(), connection.reply_hop());
    let Some(dest) = DestRef::get(c.dest, settings.epoch) else { return TcPacket::PASS };
    if !has_no_options(p) {
        return exits::drop(packet, Exit::DropUntranslatable);
    }
    let to = c.client.widen();
    // Errors for the real server are of its own family.
    let refusal = Some(Sender::toward(dest.id));
    let passage = Passage { from: Some(&c.virt), ..Passage::new(cache, <A::Other as IpAddress>::FAMILY, &to, refusal) };
    let limits = |mtu| limits(p, mtu, 0);
    let passed = route::lend(
        #[inline(always)]
        |route| gate::pass(packet, p, &passage, limits, clock::jiffies(), route),
    );
    match passed {
        Some(Ok(Way::Fragments(most))) => control_block::set_largest(packet, most),
        Some(Ok(_)) => {}
        Some(Err(verdict)) => return verdict,
        None => return exits::drop(packet, Exit::DropInternal),
    }
    let no_ends =
        Ends { source: (Address::default(), p.source_port), destination: (Address::default(), p.destination_port) };
    let is_done = translate::apply(packet, p, &no_ends, false)
        && fullnat::handover::store(main)
        && parsed_handover::store(&p.crossed::<A::Other>());
    if !is_done {
        return exits::drop(packet, Exit::DropInternal);
    }
    jump::<A::Other, _>(packet, Program::FullNatReply)
}
