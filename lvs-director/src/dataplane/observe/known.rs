//! What the connection table knows of a packet that was observed.

use std::net::SocketAddr;

use lvs_common::abi::observe::Observed;
use lvs_common::abi::{Connection, DestId, EntryKind, IpAddress, Mode, NextHop, ServiceId, dest_slot};
use lvs_common::byte_order::Be16;
use lvs_common::table::{hash as hash_of, search};

use super::super::constants::Constants;
use super::super::convert;
use super::super::error::Result;
use super::super::plane::Plane;
use super::super::table::Table;
use crate::rules::{DestinationKey, Family, ServiceKey};

/// The ends of a packet; without ports they are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// IP protocol.
    pub protocol: u8,
    /// Who sent it.
    pub source: SocketAddr,
    /// Whom it is for.
    pub destination: SocketAddr,
}

/// The connection of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The service.
    pub service: ServiceKey,
    /// The real server; `None` if its rule is gone.
    pub server: Option<DestinationKey>,
    /// How packets reach the real server.
    pub mode: Mode,
    /// Whether the real server sent the packet.
    pub is_reply: bool,
    /// Where such packets go, as far as the programs noted it.
    pub hop: Option<NextHop>,
}

/// What a packet's programs asked for that has no connection, or had none before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The service that they found.
    pub service: Option<ServiceKey>,
    /// The real server that they gave to the new connection.
    pub server: Option<DestinationKey>,
}

/// Looks packets up in the connection table of a data plane, which goes on meanwhile.
pub struct Lookup {
    secret: u64,
}

/// The entry that a packet meets, and whether the packet is a reply.
fn entry<A: IpAddress>(table: &Table<'_, A>, ends: &Ends, secret: u64) -> Option<(Connection<A>, bool)> {
    let end = |end: SocketAddr| (convert::address(end.ip()), Be16::new(end.port()));
    let (source, destination) = (end(ends.source), end(ends.destination));
    let is_client = |c: &Connection<A>, it| (c.client.widen(), c.client_port) == it;
    let is_virtual = |c: &Connection<A>, it| (c.virt.widen(), c.virt_port) == it;
    let of_client = |c: &Connection<A>| {
        c.kind == EntryKind::CONNECTION
            && c.protocol == ends.protocol
            && is_client(c, source)
            && is_virtual(c, destination)
    };
    let of_server = |c: &Connection<A>| {
        let from = match (c.kind, c.forward) {
            (EntryKind::CONNECTION | EntryKind::ANSWER, Mode::MASQ) => (c.real.widen(), c.real_port) == source,
            (EntryKind::TEMPLATE, _) | (EntryKind::CONNECTION, Mode::FULLNAT) => false,
            _ => is_virtual(c, source),
        };
        c.protocol == ends.protocol && is_client(c, destination) && from
    };
    let hash = |(address, port): (_, Be16)| hash_of(A::narrow(address), port, ends.protocol, secret);
    let found = search(table, hash(source), &of_client).map(|at| (at, false));
    let found = found.or_else(|| search(table, hash(destination), &of_server).map(|at| (at, true)));
    found.and_then(|(at, is_reply)| Some((table.get(at)?, is_reply)))
}

/// What is needed of an entry.
struct Found {
    dest: DestId,
    mode: Mode,
    reply_hop: NextHop,
}

impl Found {
    fn of<A>(c: &Connection<A>) -> Self {
        Found { dest: c.dest, mode: c.forward, reply_hop: c.reply_hop }
    }
}

impl Lookup {
    /// For a data plane.
    pub fn new(plane: &Plane) -> Result<Self> {
        Ok(Lookup { secret: Constants::of(&plane.directory.path())?.secret() })
    }

    /// What a report says that the programs asked for.
    pub fn asked(&self, plane: &Plane, report: &Observed) -> Asked {
        let (service, dest) = (ServiceId::new(report.service), DestId::new(report.dest));
        let has_service = service.is_some() && service.get() < plane.services.count();
        let has_dest = dest.is_some() && dest.get() < plane.dests.count();
        Asked {
            service: has_service.then(|| convert::service_key(&plane.services.get(service))),
            server: has_dest.then(|| convert::dest_key(&plane.dests.get(dest))),
        }
    }

    /// The connection of a packet.
    pub fn find(&self, plane: &Plane, ends: &Ends) -> Option<Known> {
        let v4 = Table { buckets: &plane.buckets4, connections: &plane.conns4 };
        let v6 = Table { buckets: &plane.buckets6, connections: &plane.conns6 };
        let (found, is_reply) = match Family::of(ends.source.ip()) {
            Family::V4 => main(&v4, &v6, ends, self.secret)?,
            Family::V6 => main(&v6, &v4, ends, self.secret)?,
        };
        if found.dest.is_none() || found.dest.get() >= plane.dests.count() {
            return None;
        }
        let dest = plane.dests.get(found.dest);
        let hop = if is_reply { found.reply_hop } else { dest.hop };
        Some(Known {
            service: convert::service_key(&plane.services.get(dest.service)),
            server: (dest.slot == dest_slot::USED).then(|| convert::dest_key(&dest)),
            mode: found.mode,
            is_reply,
            hop: (hop.ifindex != 0).then_some(hop),
        })
    }
}

/// The connection of a packet: an alias leads to it, in its own table or in the other family's.
fn main<A: IpAddress, B: IpAddress>(
    own: &Table<'_, A>,
    other: &Table<'_, B>,
    ends: &Ends,
    secret: u64,
) -> Option<(Found, bool)> {
    let (entry, is_reply) = entry(own, ends, secret)?;
    let found = match entry.kind {
        EntryKind::ALIAS => Found::of(&own.get(entry.control.index())?),
        EntryKind::CROSSED => Found::of(&other.get(entry.control.index())?),
        _ => Found::of(&entry),
    };
    Some((found, is_reply))
}
