//! The connection that a packet belongs to.

use crate::config::destination::DestRef;
use crate::table::entry::Entry;
use crate::table::store;
use crate::table::store::Table;
use lvs_common::abi::EntryRef;
use lvs_common::byte_order::Be16;

use lvs_common::{
    abi::{Connection, EntryKind, IpAddress, Mode, Settings},
    table::{self, Hash, Store, Wanted},
    wire::protocol,
};

use crate::{
    kernel::{global::global_fn, params},
    values::parsed::Parsed,
};

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
    look_up(hash(p.source, p.source_port, p.protocol), &OfClient(p))
}

/// The connection whose client sent a packet.
struct OfClient<'a, A>(&'a Parsed<A>);

impl<A: IpAddress> Wanted<A> for OfClient<'_, A> {
    #[inline(always)]
    fn is(&self, c: &Connection<A>) -> bool {
        let p = self.0;
        c.client == p.source
            && c.client_port == p.source_port
            && c.virt == p.destination
            && c.virt_port == p.destination_port
            && c.protocol == p.protocol
            && c.kind == EntryKind::CONNECTION
    }

    #[inline(always)]
    fn search<S: Store<A>>(&self, _: &S, hash: Hash) -> Option<u32> {
        index(search_of_client::<A>(hash.0, self.0))
    }
}

global_fn! {
    /// Searches for the connection whose client sent a packet.
    fn search_of_client<A>(hash: u64, p: &Parsed<A>) -> u32 = search_of_client4, search_of_client6 => search_client
}

fn search_client<A: IpAddress>(hash: u64, p: &Parsed<A>) -> u32 {
    number(table::search::<A, _>(&Table, Hash(hash), &OfClient(p)))
}

/// The connection that a packet is a reply of: to its client, from the real server (NAT) or the virtual address.
#[inline(always)]
pub fn of_server<A: IpAddress>(p: &Parsed<A>) -> Option<Found<A>> {
    let (at, connection) = look_up(hash(p.destination, p.destination_port, p.protocol), &OfServer(p))?;
    resolve(at, connection)
}

/// The entry by which a packet is a reply.
struct OfServer<'a, A>(&'a Parsed<A>);

impl<A: IpAddress> Wanted<A> for OfServer<'_, A> {
    #[inline(always)]
    fn is(&self, c: &Connection<A>) -> bool {
        let p = self.0;
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
    }

    #[inline(always)]
    fn search<S: Store<A>>(&self, _: &S, hash: Hash) -> Option<u32> {
        index(search_of_server::<A>(hash.0, self.0))
    }
}

global_fn! {
    /// Searches for the entry by which a packet is a reply.
    fn search_of_server<A>(hash: u64, p: &Parsed<A>) -> u32 = search_of_server4, search_of_server6 => search_server
}

fn search_server<A: IpAddress>(hash: u64, p: &Parsed<A>) -> u32 {
    number(table::search::<A, _>(&Table, Hash(hash), &OfServer(p)))
}

/// What a search returns if there is no such entry.
const NONE: u32 = u32::MAX;

/// The result of a search as a global function returns it.
#[inline(always)]
pub fn number(found: Option<u32>) -> u32 {
    found.unwrap_or(NONE)
}

/// [`number`]'s inverse.
#[inline(always)]
pub fn index(found: u32) -> Option<u32> {
    if found == NONE { None } else { Some(found) }
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

/// The entry with this hash that is `wanted`.
#[inline(always)]
pub fn look_up<A: IpAddress>(hash: Hash, wanted: &impl Wanted<A>) -> Option<Found<A>> {
    let (at, connection) = table::find(&Table, hash, wanted)?;
    Some((at, store::of_table(connection).into()))
}
