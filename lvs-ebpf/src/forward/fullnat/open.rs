//! Making a FullNAT connection: a local address and port, the connection, and the alias that replies find it by.

use crate::table::alias;
use lvs_common::{
    abi::{AF_INET, Mode},
    exit::Exit,
    table::Store,
    wire::tcp_flags,
};

use crate::{
    config::{self, destination::DestRef, service},
    egress::route,
    exits,
    forward::{families::serve::of_family, fullnat::toa},
    kernel::clock,
    packet::{access::Packet, parse::Family},
    programs::{Tail, jump},
    select::schedule,
    table::{
        binding,
        draft::{self, Drafted},
        local_ports::{self, Wanted},
        release,
        store::Table,
    },
    values::parsed::Parsed,
};

/// The program that takes an address and port for what `schedule::open` has drafted.
#[inline(always)]
pub fn claim<P: Packet, A: Drafted>(packet: P) -> i32
where
    Table: Store<A>,
{
    let (Some(p), Some(settings), Some(draft)) = (A::found(), config::settings(), A::draft()) else { return P::PASS };
    let Some(r) = schedule::request() else { return P::PASS };
    let Some(service) = service::ServiceRef::get(r.service, r.epoch) else { return P::PASS };
    let Some(dest) = DestRef::get(r.dest, r.epoch) else { return P::PASS };
    // SAFETY: an element of the map.
    let (real, family) = unsafe { ((*dest.it).address, (*dest.it).family) };
    let is_crossed = family != A::FAMILY;
    if is_local::<P, A>(packet, &dest, clock::jiffies()) {
        if is_crossed {
            // Its stack would take the other family's packet from no device at all.
            return exits::drop(packet, Exit::DropNoRoute);
        }
        // The director's own server answers through the director whatever its client's address is.
        // SAFETY: this CPU's own draft.
        unsafe { (*draft).forward = Mode::MASQ };
    } else {
        // SAFETY: this CPU's own draft.
        let (real_port, protocol) = unsafe { ((*draft).real_port, (*draft).protocol) };
        let wanted = Wanted { service: &service, settings, v4: family == AF_INET, protocol, real_port, real };
        let claimed = match local_ports::claim(&wanted) {
            Ok(claimed) => claimed,
            Err(exit) => return exits::drop(packet, exit),
        };
        // SAFETY: this CPU's own draft.
        unsafe {
            (*draft).local = if is_crossed { A::default() } else { A::narrow(claimed.address) };
            (*draft).local_port = claimed.port;
            (*draft).local_id = claimed.id;
            (*draft).first = first::<P, A>(packet, p);
        }
    }
    jump(packet, of_family::<A>(Tail::Enter4, Tail::Enter6))
}

/// Whether the real server is the director itself.
#[inline(always)]
fn is_local<P: Packet, A: Family>(packet: P, dest: &DestRef, now: u64) -> bool {
    let Some(route) = route::scratch() else { return false };
    // SAFETY: an element of the map.
    let (to, family) = unsafe { (&(*dest.it).address, (*dest.it).family) };
    route::route(packet, family, to, now, route) && route.local
}

/// The program that makes the connection of what [`claim`] has completed.
#[inline(always)]
pub fn enter<P: Packet, A: Drafted>(packet: P) -> i32
where
    Table: Store<A>,
{
    let (Some(p), Some(draft)) = (A::found(), A::draft()) else { return P::PASS };
    let Some(r) = schedule::request() else { return P::PASS };
    let Some(service) = service::ServiceRef::get(r.service, r.epoch) else { return P::PASS };
    let Some(dest) = DestRef::get(r.dest, r.epoch) else { return P::PASS };
    let now = clock::jiffies();
    // SAFETY: this CPU's own draft, and an element of a map.
    let (local, is_crossed, real) = unsafe { ((*draft).local_id, (*draft).is_crossed(), &(*dest.it).address) };
    let at = match draft::insert(p, draft, now) {
        Ok(at) => at,
        Err(error) => {
            // SAFETY: as above.
            let d = unsafe { &*draft };
            local_ports::release(local, d.local_port, *real, d.real_port, d.protocol);
            return exits::drop(packet, draft::refusal(error));
        }
    };
    let alias = match (local, is_crossed) {
        (0, _) => Ok(()),
        (_, false) => alias::add(draft, at),
        (_, true) => A::add_alias(draft, at, real),
    };
    if let Err(exit) = alias {
        // Whoever takes the connection out gives the port back.
        if let Some(connection) = <Table as Store<A>>::connection(&Table, at) {
            binding::bind(&dest, false);
            release::remove(at, connection, r.epoch, |_| true);
        }
        return exits::drop(packet, exit);
    }
    schedule::entered(packet, p, &service, &dest, r, now)
}

/// The client's first sequence number: that behind its SYN.
#[inline(always)]
fn first<P: Packet, A: Family>(packet: P, p: &Parsed<A>) -> u32 {
    toa::segment(packet, p).map_or(0, |s| s.sequence.wrapping_add((s.flags & tcp_flags::SYN != 0) as u32))
}
