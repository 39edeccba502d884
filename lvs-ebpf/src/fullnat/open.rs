//! Making a FullNAT connection: a local address and port, the connection, and the alias that replies find it by.

use lvs_common::{
    abi::{Connection, Forward, Settings, conn_kind},
    exit::Exit,
    table::{self, Store},
    wire::tcp_flags,
};

use super::local::{self, Claimed};
use crate::{
    count, deliver,
    packet::Packet,
    parse::{Family, Parsed},
    schedule::{self, Drafted, Request, copy},
    service, track,
    track::{Dest, Table},
};

/// Jiffies of an alias: it goes with its connection, and not by itself.
const FOREVER: u32 = u32::MAX;

/// The program that opens what `schedule::open` has drafted.
#[inline(always)]
pub fn run<P: Packet, A: Drafted>(packet: P) -> i32
where
    Table: Store<A>,
{
    let (Some(p), Some(settings), Some(draft)) = (A::found(), track::settings(), A::draft()) else { return P::PASS };
    let Some(r) = schedule::request() else { return P::PASS };
    let Some(service) = service::Found::get(r.service, r.epoch) else { return P::PASS };
    let Some(dest) = Dest::get(r.dest, r.epoch) else { return P::PASS };
    let now = track::jiffies();
    if is_local::<P, A>(packet, &dest, now) {
        // The director's own server answers through the director whatever its client's address is.
        // SAFETY: this CPU's own draft.
        unsafe { (*draft).forward = Forward::Masq as u8 };
        return schedule::enter_and_go(packet, p, draft, &service, &dest, r, now);
    }
    match open(packet, p, draft, &service, &dest, r, settings, now) {
        Ok(verdict) => verdict,
        Err(exit) => count::drop(packet, exit),
    }
}

/// Whether the real server is the director itself.
#[inline(always)]
fn is_local<P: Packet, A: Family>(packet: P, dest: &Dest, now: u64) -> bool {
    let Some(route) = deliver::scratch() else { return false };
    // SAFETY: an element of the map.
    let (to, family) = unsafe { (&(*dest.it).address, (*dest.it).family) };
    deliver::route(packet, family, to, now, route) && route.local
}

#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "what the program has read, each of it once")]
fn open<P: Packet, A: Drafted>(
    packet: P,
    p: &Parsed<A>,
    draft: *mut Connection<A>,
    service: &service::Found,
    dest: &Dest,
    r: &Request,
    settings: &Settings,
    now: u64,
) -> Result<i32, Exit>
where
    Table: Store<A>,
{
    // SAFETY: this CPU's own draft.
    let (real, real_port, protocol) = unsafe { ((*draft).real, (*draft).real_port, (*draft).protocol) };
    let claimed = local::claim(service, settings, real.widen(), real_port, protocol)?;
    let give_back = || local::release(claimed.id, claimed.port, real.widen(), real_port, protocol);
    // SAFETY: this CPU's own draft.
    unsafe {
        (*draft).local = A::narrow(claimed.address);
        (*draft).local_port = claimed.port;
        (*draft).local_id = claimed.id;
        (*draft).first = first::<P, A>(packet, p);
    }
    let at = match schedule::enter(p, draft, now) {
        Ok(at) => at,
        Err(error) => {
            give_back();
            return Err(schedule::refusal(error));
        }
    };
    if !add_alias(draft, at, &claimed) {
        // Whoever takes the connection out gives the port back.
        if let Some(connection) = <Table as Store<A>>::connection(&Table, at) {
            track::bind(dest, false);
            track::remove(at, connection, settings.epoch, |_| true);
        }
        return Err(Exit::DropTableFull);
    }
    Ok(schedule::entered(packet, p, service, dest, r, now))
}

/// The client's first sequence number: that behind its SYN.
#[inline(always)]
fn first<P: Packet, A: Family>(packet: P, p: &Parsed<A>) -> u32 {
    super::tcp(packet, p).map_or(
        0,
        |(flags, sequence)| {
            if flags & tcp_flags::SYN != 0 { sequence.wrapping_add(1) } else { sequence }
        },
    )
}

/// Puts the alias of connection `at` into the table; the draft is written over.
#[inline(always)]
fn add_alias<A: Drafted>(draft: *mut Connection<A>, at: u32, claimed: &Claimed) -> bool
where
    Table: Store<A>,
{
    let local = A::narrow(claimed.address);
    // SAFETY: this CPU's own draft.
    let (real, real_port, protocol) = unsafe {
        let (real, real_port) = ((*draft).real, (*draft).real_port);
        (*draft).client = local;
        (*draft).client_port = claimed.port;
        (*draft).virt = real;
        (*draft).virt_port = real_port;
        (*draft).kind = conn_kind::ALIAS;
        (*draft).timeout = FOREVER;
        (*draft).control = at.wrapping_add(1);
        (*draft).dest = 0;
        (real, real_port, (*draft).protocol)
    };
    let same = |c: &Connection<A>| {
        c.kind == conn_kind::ALIAS
            && c.client == local
            && c.client_port == claimed.port
            && c.virt == real
            && c.virt_port == real_port
            && c.protocol == protocol
    };
    // SAFETY: an entry of the table that nobody else can find yet.
    let fill = |c: *mut Connection<A>| unsafe { copy(draft, c) };
    let hash = track::hash(local, claimed.port, protocol);
    let Ok((alias, _)) = table::insert(&Table, hash, u64::MAX, same, fill) else { return false };
    if let Some(connection) = <Table as Store<A>>::connection(&Table, at) {
        // SAFETY: an element of the map.
        unsafe { (&raw mut (*connection).alias).write_volatile(alias.wrapping_add(1)) };
    }
    true
}
