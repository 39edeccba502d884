//! FullNAT between families: a client of IPv6 and a real server of IPv4, or the other way round (RFC 7915, with the state of
//! RFC 6146 that FullNAT has anyway). Only in TC, where the kernel changes a packet's family; XDP hands such packets up.
//!
//! The connection is one of its client's family, and what goes to the real server becomes one of the other family last of
//! all. A reply is found by an alias in the table of its own family. It becomes a packet of the client's family first, one
//! without addresses, and from there on takes the way of all replies.

use lvs_common::{
    abi::{AF_INET, Address, Connection, DestId},
    cross,
    exit::Exit,
    table::Store,
};

use crate::{
    config::destination::DestRef,
    egress::{gate, refuse, route, send, split},
    exits,
    forward::{
        families::translate,
        fullnat::{
            serve::{begins, left},
            toa,
            translate::Ends,
        },
    },
    kernel::{clock, cpu},
    maps::{HITS, LOCALS},
    packet::{access::Packet, control_block, parse::Family, tc::TcPacket},
    programs::{Tail, jump},
    table::{account, alias, store::Table},
    values::parsed::{L3, Parsed},
};

/// Whether a family is IPv4.
#[inline(always)]
pub const fn v4<A: Family>() -> bool {
    A::FAMILY == AF_INET
}

/// The program of a family: of IPv4 or IPv6.
#[inline(always)]
pub const fn of_family<A: Family>(four: Tail, six: Tail) -> Tail {
    if v4::<A>() { four } else { six }
}

/// Whether the transport header follows the network header at once.
#[inline(always)]
fn is_bare<A: Family>(p: &Parsed<A>) -> bool {
    p.l4() == L3 + A::HEADER
}

/// The ends of a connection's packets to its real server.
#[inline(always)]
pub fn ends<A>(c: &Connection<A>, dest: &DestRef) -> Option<Ends<Address>> {
    let local = LOCALS.get(c.local_id)?;
    // SAFETY: an element of the map.
    let real = unsafe { (*dest.it).address };
    Some(Ends { source: (local.address, c.local_port), destination: (real, c.real_port) })
}

/// How long the fragments of a packet may be that was put together from such of `largest` bytes at most in the other family.
#[inline(always)]
fn longest(largest: u32, mtu: u32) -> u32 {
    if largest == 0 || largest > mtu { mtu } else { largest }
}

/// Whether a packet fits as one of the other family, and the largest of the fragments it came in, 0 if it came whole.
#[inline(always)]
fn fits<A: Family>(packet: TcPacket, p: &Parsed<A>, mtu: u32) -> (bool, u32) {
    let (room, largest) = (cross::room(v4::<A>(), mtu), control_block::largest(packet));
    match largest {
        0 => (gate::fits(packet, p.length, A::HEADER as u32 + 20, room), 0),
        largest => (largest <= room, largest),
    }
}

/// Serves a client's packet of family `A` for a real server of family `B`.
#[inline(always)]
pub fn forward<A: Family + 'static, B: Family>(packet: TcPacket) -> i32
where
    Table: Store<A>,
{
    let Some((p, settings, at, connection)) = left::<A>() else { return TcPacket::PASS };
    // SAFETY: an element of the map.
    let c = unsafe { &*connection };
    let Some(dest) = DestRef::get(c.dest, settings.epoch) else { return TcPacket::PASS };
    let now = clock::jiffies();
    let tells = begins(packet, p, settings, connection);
    // The program for options comes back here.
    let is_first_time = !control_block::are_options_done(packet);
    if is_first_time {
        account::account_request(packet, p, settings, at, connection, &dest, now);
    }
    if !is_bare(p) {
        return exits::drop(packet, Exit::DropUntranslatable);
    }
    // SAFETY: an element of the map.
    let (to, family, cache) = unsafe { (&(*dest.it).address, (*dest.it).family, &raw mut (*dest.it).hop) };
    let Some(route) = route::scratch() else { return exits::drop(packet, Exit::DropInternal) };
    if !route::cached(cache, now, route) && !route::look_up(packet, cache, family, to, now, route) || route.local {
        return exits::drop(packet, Exit::DropNoRoute);
    }
    let own = packet.device() == 0;
    if p.ttl <= 1 && !own {
        return refuse::time_exceeded::<TcPacket, A>(packet, DestId::NONE, DestId::NONE);
    }
    if tells && is_first_time {
        return jump(packet, of_family::<A>(Tail::Tell4, Tail::Tell6));
    }
    let mtu = route.hop.mtu as u32;
    let (fits, largest) = fits(packet, p, mtu);
    if !fits && !cross::may_be_cut(v4::<A>(), p.length, p.df) {
        return refuse::too_big::<TcPacket, A>(
            packet,
            cross::told(v4::<A>(), mtu, toa::added(c, settings)),
            DestId::NONE,
            DestId::NONE,
        );
    }
    let Some(ends) = ends(c, &dest) else { return exits::drop(packet, Exit::DropInternal) };
    if !translate::apply::<A, B>(packet, p, &ends, !own) {
        return exits::drop(packet, Exit::DropInternal);
    }
    if largest != 0 || !fits {
        exits::count(Exit::FullNat);
        return split::split(packet, dest.id, longest(largest, mtu));
    }
    exits::leave(packet, Exit::FullNat, send::send_tc(packet, route))
}

/// Makes a real server's packet of family `A` one for a client of family `B`, and goes on with it as with any reply.
#[inline(always)]
pub fn answer<A: Family + 'static, B: Family>(packet: TcPacket) -> i32
where
    Table: Store<A> + Store<B>,
{
    let Some((p, settings, at, entry)) = left::<A>() else { return TcPacket::PASS };
    // SAFETY: an element of the map.
    let Some((main, connection)) = alias::connection_of::<A, B>(at, unsafe { &*entry }) else {
        return TcPacket::PASS;
    };
    // SAFETY: as above.
    let (c, cache) = unsafe { (&*connection, &raw mut (*connection).reply_hop) };
    let Some(dest) = DestRef::get(c.dest, settings.epoch) else { return TcPacket::PASS };
    if !is_bare(p) {
        return exits::drop(packet, Exit::DropUntranslatable);
    }
    let Some(route) = route::scratch() else { return exits::drop(packet, Exit::DropInternal) };
    let (to, now) = (c.client.widen(), clock::jiffies());
    if !route::cached(cache, now, route) && !route::look_up(packet, cache, B::FAMILY, &to, now, route) {
        return exits::drop(packet, Exit::DropNoRoute);
    }
    if !route.local {
        // What the real server is told, it is told in its own family.
        if p.ttl <= 1 {
            return refuse::time_exceeded::<TcPacket, A>(packet, dest.id, DestId::NONE);
        }
        let mtu = route.hop.mtu as u32;
        let (fits, largest) = fits(packet, p, mtu);
        if !fits && !cross::may_be_cut(v4::<A>(), p.length, p.df) {
            return refuse::too_big::<TcPacket, A>(packet, cross::told(v4::<A>(), mtu, 0), dest.id, DestId::NONE);
        }
        if largest != 0 || !fits {
            // It leaves in fragments.
            control_block::set_largest(packet, longest(largest, mtu));
        }
    }
    let nowhere =
        Ends { source: (Address::default(), p.source_port), destination: (Address::default(), p.destination_port) };
    if !translate::apply::<A, B>(packet, p, &nowhere, false) {
        return exits::drop(packet, Exit::DropInternal);
    }
    let Some(hit) = HITS.get_ptr_mut(cpu::number()) else { return TcPacket::DROP };
    // SAFETY: this CPU's own element.
    unsafe { hit.write(main) };
    if !B::leave(&p.crossed()) {
        return TcPacket::DROP;
    }
    jump(packet, of_family::<B>(Tail::FullNatReply4, Tail::FullNatReply6));
    TcPacket::DROP
}
