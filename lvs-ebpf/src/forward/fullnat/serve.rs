//! FullNAT: both addresses are translated, so the real server answers the director, whatever its routes.

use lvs_common::{
    abi::{AF_INET, Connection, DestId, EntryKind, NextHop, Settings},
    exit::Exit,
    fullnat::{Telling, answered, asked, telling, told},
    table::Store,
    wire::tcp_flags,
};

use crate::{
    config::{self, destination::DestRef},
    egress::{gate, refuse, route, send, split},
    exits,
    forward::{
        families::serve::of_family,
        fullnat::{
            toa,
            translate::{self, Ends},
            uoa,
        },
        nat,
    },
    kernel::{clock, cpu},
    maps::HITS,
    packet::{access::Packet, control_block, parse::Family},
    programs::{Tail, jump},
    table::{account, store::Table},
    values::parsed::{L3, Parsed},
};

/// Goes on with the program for a packet of connection `at`.
#[inline(always)]
pub fn go_on<P: Packet, A: Family>(packet: P, p: &Parsed<A>, at: u32, to: Tail) -> i32 {
    let Some(hit) = HITS.get_ptr_mut(cpu::number()) else { return P::PASS };
    // SAFETY: this CPU's own element.
    unsafe { hit.write(at) };
    // In TC it has been left since it was read.
    if !P::COMPLETE && !A::leave(p) {
        return P::PASS;
    }
    jump(packet, to)
}

/// What the program that jumped here left.
#[inline(always)]
pub fn left<A: Family + 'static>() -> Option<(&'static Parsed<A>, &'static Settings, u32, *mut Connection<A>)>
where
    Table: Store<A>,
{
    let at = HITS.get(cpu::number()).copied()?;
    Some((A::found()?, config::settings()?, at, <Table as Store<A>>::connection(&Table, at)?))
}

/// Serves a client's packet of a live connection to an available destination.
#[inline(always)]
pub fn forward<P: Packet, A: Family + 'static>(packet: P) -> i32
where
    Table: Store<A>,
{
    let Some((p, settings, at, connection)) = left::<A>() else { return P::PASS };
    // SAFETY: an element of the map.
    let c = unsafe { &*connection };
    if c.is_crossed() {
        return if P::COMPLETE { jump(packet, of_family::<A>(Tail::Cross4, Tail::Cross6)) } else { P::PASS };
    }
    let Some(dest) = DestRef::get(c.dest, settings.epoch) else { return P::PASS };
    let now = clock::jiffies();
    let tells = begins(packet, p, settings, connection);
    // SAFETY: an element of the map.
    let (to, family, cache) = unsafe { (&(*dest.it).address, (*dest.it).family, &raw mut (*dest.it).hop) };
    let ends = Ends { source: (c.local, c.local_port), destination: (c.real, c.real_port) };
    if !P::COMPLETE {
        let changes = p.source_port != c.local_port || p.destination_port != c.real_port;
        if p.ttl <= 1 || !nat::possible(packet, p, changes) || tells {
            return P::PASS;
        }
        let Some(hop) = route::hop(packet, cache, family, to, now) else { return P::PASS };
        if p.length > hop.mtu as u32 {
            return P::PASS;
        }
        account::account_request(packet, p, settings, at, connection, &dest, now);
        if !translate::apply(packet, p, &ends, true) {
            return exits::drop(packet, Exit::DropInternal);
        }
        return exits::leave(packet, Exit::FullNat, send::send_xdp(packet, &hop));
    }
    // The program for options comes back here.
    let is_first_time = !control_block::are_options_done(packet);
    if is_first_time {
        account::account_request(packet, p, settings, at, connection, &dest, now);
    }
    let Some(route) = route::scratch() else { return exits::drop(packet, Exit::DropInternal) };
    if !route::cached(cache, now, route) && !route::look_up(packet, cache, family, to, now, route) {
        return exits::drop(packet, Exit::DropNoRoute);
    }
    let own = packet.device() == 0;
    if p.ttl <= 1 && !own {
        return refuse::time_exceeded::<P, A>(packet, DestId::NONE, DestId::NONE);
    }
    if tells && is_first_time {
        return jump(packet, if A::FAMILY == AF_INET { Tail::Tell4 } else { Tail::Tell6 });
    }
    let (mtu, largest) = (route.hop.mtu as u32, control_block::largest(packet));
    let fits = match largest {
        0 => gate::fits(packet, p.length, (p.l4() - L3) as u32 + 20, mtu),
        largest => largest <= mtu,
    };
    if !fits && p.df {
        return refuse::too_big::<P, A>(
            packet,
            mtu.saturating_sub(toa::added(c, settings)),
            DestId::NONE,
            DestId::NONE,
        );
    }
    if !translate::apply(packet, p, &ends, !own) {
        return exits::drop(packet, Exit::DropInternal);
    }
    if largest != 0 || !fits {
        exits::count(Exit::FullNat);
        return split::split(packet, dest.id, if largest == 0 || largest > mtu { mtu } else { largest });
    }
    exits::leave(packet, Exit::FullNat, send::send_tc(packet, route))
}

/// What a client's packet means for TOA, or UOA: whether it has to do with it at all.
#[inline(always)]
pub fn begins<P: Packet, A: Family>(
    packet: P,
    p: &Parsed<A>,
    settings: &Settings,
    connection: *mut Connection<A>,
) -> bool {
    // SAFETY: an element of the map.
    let c = unsafe { &*connection };
    if is_settled(p, c) {
        return false;
    }
    let Some(segment) = toa::segment(packet, p) else { return uoa::concerns(p, settings, c) };
    let now = asked(c.told, &segment);
    if now != c.told {
        // SAFETY: as above.
        unsafe { (&raw mut (*connection).told).write_volatile(now) };
    }
    telling(now, settings.sysctls.toa, c.first, &segment) != Telling::Nothing
}

/// Whether TOA is a thing of the past for a connection, and this packet is not to begin another one.
#[inline(always)]
fn is_settled<A: Family>(p: &Parsed<A>, c: &Connection<A>) -> bool {
    c.told >= told::SETTLED && p.flags & tcp_flags::SYN == 0
}

/// What a real server's packet means for TOA: whether it is its SYN.
#[inline(always)]
fn opens<P: Packet, A: Family>(packet: P, p: &Parsed<A>, settings: &Settings, connection: *mut Connection<A>) -> bool {
    // SAFETY: an element of the map.
    let c = unsafe { &*connection };
    if is_settled(p, c) {
        return false;
    }
    let Some(segment) = toa::segment(packet, p) else { return false };
    let (told, first) = answered(c.told, c.first, &segment);
    if (told, first) != (c.told, c.first) {
        // SAFETY: as above. Segments on two CPUs at once are those of a connection that opens, or none that matters.
        unsafe {
            (&raw mut (*connection).first).write_volatile(first);
            (&raw mut (*connection).told).write_volatile(told);
        }
    }
    segment.flags & tcp_flags::SYN != 0 && settings.sysctls.toa != 0
}

/// Serves a real server's packet.
#[inline(always)]
pub fn answer<P: Packet, A: Family + 'static>(packet: P) -> i32
where
    Table: Store<A>,
{
    let Some((p, settings, at, connection)) = left::<A>() else { return P::PASS };
    // SAFETY: an element of the map.
    let c = unsafe { &*connection };
    if c.kind == EntryKind::CROSSED {
        return if P::COMPLETE { jump(packet, of_family::<A>(Tail::CrossReply4, Tail::CrossReply6)) } else { P::PASS };
    }
    let Some(dest) = DestRef::get(c.dest, settings.epoch) else { return P::PASS };
    let now = clock::jiffies();
    let to = c.client.widen();
    let ends = Ends { source: (c.virt, c.virt_port), destination: (c.client, c.client_port) };
    // SAFETY: as above.
    let cache: *mut NextHop = unsafe { &raw mut (*connection).reply_hop };
    let opening = opens(packet, p, settings, connection);
    if !P::COMPLETE {
        let changes = p.source_port != c.virt_port || p.destination_port != c.client_port;
        // The client is told a smaller segment size, so that there is room for its address.
        if p.ttl <= 1 || !nat::possible(packet, p, changes) || opening {
            return P::PASS;
        }
        let Some(hop) = route::hop(packet, cache, A::FAMILY, &to, now) else { return P::PASS };
        if p.length > hop.mtu as u32 {
            return P::PASS;
        }
        account::account_reply(p, settings, at, connection, &dest, now);
        if !translate::apply(packet, p, &ends, true) {
            return exits::drop(packet, Exit::DropInternal);
        }
        return exits::leave(packet, Exit::FullNatReply, send::send_xdp(packet, &hop));
    }
    if opening && !control_block::are_options_done(packet) {
        return jump(packet, if A::FAMILY == AF_INET { Tail::Room4 } else { Tail::Room6 });
    }
    let Some(route) = route::scratch() else { return exits::drop(packet, Exit::DropInternal) };
    if !route::cached(cache, now, route) && !route::look_up(packet, cache, A::FAMILY, &to, now, route) {
        return exits::drop(packet, Exit::DropNoRoute);
    }
    let (mtu, largest) = (route.hop.mtu as u32, control_block::largest(packet));
    let mut fits = true;
    if !route.local {
        if p.ttl <= 1 {
            return refuse::time_exceeded::<P, A>(packet, dest.id, DestId::NONE);
        }
        fits = match largest {
            0 => gate::fits(packet, p.length, (p.l4() - L3) as u32 + 20, mtu),
            largest => largest <= mtu,
        };
        if !fits && p.df {
            return refuse::too_big::<P, A>(packet, mtu, dest.id, DestId::NONE);
        }
    }
    account::account_reply(p, settings, at, connection, &dest, now);
    if !translate::apply(packet, p, &ends, !route.local) {
        return exits::drop(packet, Exit::DropInternal);
    }
    if (largest != 0 || !fits) && !route.local {
        exits::count(Exit::FullNatReply);
        return split::split(packet, DestId::NONE, if fits { largest } else { mtu });
    }
    let verdict = if route.local { send::send_local(packet) } else { send::send_tc(packet, route) };
    exits::leave(packet, Exit::FullNatReply, verdict)
}
