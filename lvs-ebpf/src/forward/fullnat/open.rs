//! Making a FullNAT connection: a local address and port, the connection, and the alias that replies find it by.

use lvs_common::{
    abi::{AF_INET, Mode},
    exit::Exit,
    programs::Program,
    table::InsertError,
    wire::tcp_flags,
};

use crate::{
    config::{self, destination::DestRef, service::ServiceRef},
    egress::route,
    exits,
    forward::fullnat::options,
    kernel::clock,
    packet::{access::Packet, handover, parse::Family},
    programs::jump,
    select::{open, request},
    table::{
        alias, binding, draft,
        entry::Entry,
        local_ports::{self, Wanted},
        release, room, store,
    },
    values::{parsed::Parsed, request::Request},
};

/// Claims a local address and port for the connection that the program `Open` has drafted.
#[inline(always)]
pub fn claim<P: Packet, A: Family>(packet: P) -> i32 {
    let (Some(p), Some(settings), Some(draft)) = (handover::load::<A>(), config::settings(), draft::place::<A>())
    else {
        return P::PASS;
    };
    let Some((service, dest)) = request::lend(
        #[inline(always)]
        |r| requested(r),
    )
    .flatten() else {
        return P::PASS;
    };
    let (real, family) = (dest.address(), dest.family());
    let is_crossed = family != A::FAMILY;
    if !dest.is_remote() && route::is_local(packet, family, real, clock::jiffies()) {
        if is_crossed {
            // Its stack would take the other family's packet from no device at all.
            return exits::drop(packet, Exit::DropNoRoute);
        }
        // The director's own server answers through the director, whatever its client's address is.
        draft.set_mode(Mode::MASQ);
        return jump::<A, _>(packet, Program::OpenFullNat);
    }
    let (real_port, protocol) = (draft.real_port, draft.protocol);
    let wanted = Wanted { service: &service, settings, v4: family == AF_INET, protocol, real_port, real: *real };
    let claimed = match local_ports::claim(&wanted) {
        Ok(claimed) => claimed,
        Err(exit) => return exits::drop(packet, exit),
    };
    let local = if is_crossed { A::default() } else { A::narrow(claimed.address) };
    draft.set_local(claimed.id, local, claimed.port);
    draft.set_first_sequence(first_sequence(packet, p));
    jump::<A, _>(packet, Program::OpenFullNat)
}

/// The service and destination of a request.
#[inline(always)]
fn requested(r: &Request) -> Option<(ServiceRef, DestRef)> {
    let service = ServiceRef::get(r.service, r.epoch)?;
    Some((service, DestRef::get(r.dest, r.epoch)?))
}

/// Makes the connection of what [`claim`] has completed, and its alias.
#[inline(always)]
pub fn insert<P: Packet, A: Family>(packet: P) -> i32 {
    let (Some(p), Some(draft)) = (handover::load::<A>(), draft::place::<A>()) else { return P::PASS };
    request::lend(
        #[inline(always)]
        |r| insert_requested(packet, p, draft, r),
    )
    .unwrap_or(P::PASS)
}

#[inline(always)]
fn insert_requested<P: Packet, A: Family>(packet: P, p: &Parsed<A>, draft: Entry<A>, r: &mut Request) -> i32 {
    let Some((service, dest)) = requested(r) else { return P::PASS };
    let now = clock::jiffies();
    let (local, is_crossed, real) = (draft.local_id, draft.is_crossed(), dest.address());
    if local != 0 && !room::is_left_for_alias(draft) {
        r.room.for_alias = 1;
        return jump::<A, _>(packet, Program::MakeRoom);
    }
    r.room.for_alias = 0;
    let at = match draft::insert(draft, now) {
        Ok(at) => at,
        Err(InsertError::Full) => return jump::<A, _>(packet, Program::MakeRoom),
        Err(error) => {
            local_ports::release(local, draft.local_port, *real, draft.real_port, draft.protocol);
            return exits::drop(packet, draft::refusal(error));
        }
    };
    let alias = match (local, is_crossed) {
        (0, _) => Ok(()),
        (_, false) => alias::add(draft, at),
        (_, true) => alias::add_between::<A, A::Other>(draft, at, real),
    };
    if let Err(exit) = alias {
        // Removing the connection releases its port.
        if let Some(connection) = store::entry::<A>(at) {
            binding::bind(&dest, false);
            release::remove(at, connection, r.epoch, |_| true);
        }
        return exits::drop(packet, exit);
    }
    open::inserted(packet, p, &service, &dest, r, now)
}

/// The sequence number of the client's first byte, which follows its SYN.
#[inline(always)]
fn first_sequence<P: Packet, A>(packet: P, p: &Parsed<A>) -> u32 {
    options::segment(packet, p).map_or(0, |s| s.sequence.wrapping_add((s.flags & tcp_flags::SYN != 0) as u32))
}
