//! The connection that a packet belongs to.

use crate::config::destination::DestRef;
use crate::table::entry::Entry;
use crate::table::store;
use crate::table::store::Table;
use lvs_common::abi::EntryRef;
use lvs_common::byte_order::Be16;

use lvs_common::{
    abi::{Connection, EntryKind, IpAddress, Mode, Settings},
    table::{self, Hash},
    wire::protocol,
};

use crate::{kernel::params, values::parsed::Parsed};

/// A connection found: its entry's index and itself.
pub type Found<A> = (u32, Entry<A>);

/// Hash of a client's side.
#[inline(always)]
pub fn hash<A: IpAddress>(client: A, port: Be16, protocol: u8) -> Hash {
    table::hash(client, port, protocol, params::secret())
}

/// Hash of a connection or template.
#[inline(always)]
pub fn hash_of<A: IpAddress>(c: &Connection<A>) -> Hash {
    if c.kind == EntryKind::TEMPLATE {
        return table::template_hash(c.client, c.virt, c.virt_port, c.protocol, c.engine, params::secret());
    }
    hash(c.client, c.client_port, c.protocol)
}

/// The connection of a client's packet.
#[inline(always)]
pub fn of_client<A: IpAddress>(p: &Parsed<A>) -> Option<Found<A>> {
    look_up(hash(p.source, p.source_port, p.protocol), |c| is_of_client(c, p))
}

/// Whether `p` is from the client of `c`.
#[inline(always)]
pub fn is_of_client<A: IpAddress>(c: &Connection<A>, p: &Parsed<A>) -> bool {
    c.client == p.source
        && c.client_port == p.source_port
        && c.virt == p.destination
        && c.virt_port == p.destination_port
        && c.protocol == p.protocol
        && c.kind == EntryKind::CONNECTION
}

/// The connection that a packet is a reply of: to its client, from the real server (NAT) or the virtual address.
#[inline(always)]
pub fn of_server<A: IpAddress>(p: &Parsed<A>) -> Option<Found<A>> {
    let (at, connection) = look_up(hash(p.destination, p.destination_port, p.protocol), |c| {
        c.client == p.destination
            && c.client_port == p.destination_port
            && c.protocol == p.protocol
            && match (c.kind, c.forward) {
                (EntryKind::CONNECTION | EntryKind::ANSWER, Mode::MASQ) => {
                    c.real == p.source && c.real_port == p.source_port
                }
                (EntryKind::TEMPLATE, _) | (EntryKind::CONNECTION, Mode::FULLNAT) => false,
                _ => c.virt == p.source && c.virt_port == p.source_port,
            }
    })?;
    resolve(at, connection)
}

/// Whether a connection's time is over at `now`.
#[inline(always)]
pub fn expired<A>(c: &Connection<A>, now: u64) -> bool {
    now.wrapping_sub(c.last_seen) as i64 > c.timeout as i64
}

/// Whether a UDP connection leaves its destination with the next packet, as that was removed or quiesced
/// (`expire_udp_conn`). A template that still leads there keeps it.
#[inline(always)]
pub fn moves_on<A>(c: &Connection<A>, dest: &DestRef, settings: &Settings) -> bool {
    settings.sysctls.expire_udp_conn != 0
        && c.protocol == protocol::UDP
        && (!dest.available() || dest.config().weight == 0 && c.control.is_none())
}

/// Whether a connection leads to no real server, but to its own destination.
#[inline(always)]
pub fn is_bypass<A>(c: &Connection<A>) -> bool {
    c.forward == Mode::BYPASS
}

/// The connection of a reply that `at` was found for: itself, or that of the alias.
#[inline(always)]
pub fn resolve<A: IpAddress>(at: u32, c: Entry<A>) -> Option<(u32, Entry<A>)> {
    let (kind, control) = (c.kind, c.control);
    if kind != EntryKind::ALIAS {
        return Some((at, c));
    }
    let main = control.index();
    let connection = store::entry::<A>(main)?;
    if connection.alias == EntryRef::to(at) { Some((main, connection)) } else { None }
}

/// The entry with this hash that `is_it`.
#[inline(always)]
pub fn look_up<A: IpAddress>(hash: Hash, is_it: impl Fn(&Connection<A>) -> bool) -> Option<Found<A>> {
    let (at, connection) = table::find(&Table, hash, is_it)?;
    Some((at, store::of_table(connection).into()))
}
