//! A full table: what gives way to a connection, searched for in the copy as `lvs-ebpf/src/table/room.rs` does, by the functions that say
//! what an entry is worth.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use lvs_common::abi::{Connection, EntryKind, EntryRef, IpAddress, WAYS};
use lvs_common::byte_order::Be16;
use lvs_common::evict::{Worth, worth};
use lvs_common::table::{self, Hash, PROBES};

use super::super::clock::Clock;
use super::super::convert;
use super::super::kernel::ticks_per_second;
use super::super::mapped::field;
use super::super::plane::Plane;
use super::super::table::Table;
use super::subject::Subject;
use crate::rules::Family;

/// Whether there is room for a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Room {
    /// There is.
    #[default]
    Left,
    /// This one gives way.
    Yields(Held),
    /// There is none, and nothing may give way.
    Refused,
}

/// An entry of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its protocol, 0 for a template of a service by mark.
    pub protocol: u8,
    /// The client: without a port in a template.
    pub client: SocketAddr,
    /// The virtual address and port.
    pub virt: SocketAddr,
    /// What it is, and why it is worth little.
    pub why: &'static str,
    worth: u32,
    place: (Family, u32),
}

impl Held {
    /// Whether two are the same entry, whatever they are worth.
    pub fn is(&self, other: &Held) -> bool {
        let key = |held: &Held| (held.place, held.protocol, held.client, held.virt);
        key(self) == key(other)
    }
}

/// The buckets that a packet's connection may stand in, of a plane whose table has the layout of the one that runs.
pub struct Near<'a> {
    plane: &'a Plane,
    subject: &'a Subject,
    secret: u64,
    now: u64,
}

impl<'a> Near<'a> {
    /// Of a packet. `secret` is the hash's.
    pub fn of(plane: &'a Plane, subject: &'a Subject, secret: u64) -> Self {
        Near { plane, subject, secret, now: Clock::of(plane).now }
    }

    /// Whether there is room for a connection that the packet opens.
    pub fn room(&self) -> Room {
        match self.subject.family() {
            Family::V4 => self.view4().room(self.hash::<u32>()),
            Family::V6 => self.view6().room(self.hash::<[u32; 4]>()),
        }
    }

    /// The connections and templates there.
    pub fn held(&self) -> Vec<Held> {
        match self.subject.family() {
            Family::V4 => self.view4().all(self.hash::<u32>()),
            Family::V6 => self.view6().all(self.hash::<[u32; 4]>()),
        }
    }

    fn view4(&self) -> View<'_, u32> {
        View { own: table4(self.plane), other: table6(self.plane), now: self.now }
    }

    fn view6(&self) -> View<'_, [u32; 4]> {
        View { own: table6(self.plane), other: table4(self.plane), now: self.now }
    }

    fn hash<A: IpAddress>(&self) -> Hash {
        let client = A::narrow(convert::address(self.subject.source.ip()));
        table::hash(client, Be16::new(self.subject.source.port()), self.subject.protocol, self.secret)
    }
}

fn table4(plane: &Plane) -> Table<'_, u32> {
    Table { buckets: &plane.buckets4, connections: &plane.conns4 }
}

fn table6(plane: &Plane) -> Table<'_, [u32; 4]> {
    Table { buckets: &plane.buckets6, connections: &plane.conns6 }
}

/// A family's table, the other's, and the time.
struct View<'a, A: IpAddress> {
    own: Table<'a, A>,
    other: Table<'a, A::Other>,
    now: u64,
}

impl<A: IpAddress> View<'_, A> {
    fn room(&self, hash: Hash) -> Room {
        if table::probe_with_room(&self.own, hash).is_some() {
            return Room::Left;
        }
        let mut least: Option<Held> = None;
        for probe in 0..PROBES {
            if probe > 1 && least.is_some() {
                break;
            }
            let Some(held) = self.least(hash.choice(probe, self.own.buckets.count())) else { continue };
            let is_least = least.as_ref().is_none_or(|least| rank(&held) < rank(least));
            let suffices = Worth::new(held.worth).suffices();
            if is_least {
                least = Some(held);
            }
            if suffices {
                break;
            }
        }
        least.map_or(Room::Refused, Room::Yields)
    }

    /// The entry of least worth in a bucket, if one may give way.
    fn least(&self, bucket: u32) -> Option<Held> {
        let barren = field!(self.own.buckets, bucket, barren);
        if self.now.wrapping_sub(barren) < u64::from(ticks_per_second()) {
            return None;
        }
        let hand = field!(self.own.buckets, bucket, hand);
        let mut least: Option<Held> = None;
        for way in (0..WAYS).map(|n| n.wrapping_add(hand) % WAYS) {
            let Some(held) = self.main(table::entry(bucket, way)) else { continue };
            let is_less = least.as_ref().map_or(held.worth != Worth::KEPT.get(), |least| rank(&held) < rank(least));
            let suffices = Worth::new(held.worth).suffices();
            if is_less {
                least = Some(held);
            }
            if suffices {
                break;
            }
        }
        least
    }

    /// Everything in the buckets of a hash. In a small table one bucket may be two of its choices.
    fn all(&self, hash: Hash) -> Vec<Held> {
        let buckets: BTreeSet<u32> = (0..PROBES).map(|probe| hash.choice(probe, self.own.buckets.count())).collect();
        buckets
            .into_iter()
            .flat_map(|bucket| (0..WAYS).filter_map(move |way| self.main(table::entry(bucket, way))))
            .collect()
    }

    /// The connection or template of an entry: an alias leads to its connection.
    fn main(&self, at: u32) -> Option<Held> {
        let entry = self.own.get(at)?;
        let main = entry.control.index();
        match entry.kind {
            EntryKind::ALIAS => {
                let its = self.own.get(main).filter(|c| c.alias == EntryRef::to(at))?;
                Some(self.held(main, &its))
            }
            EntryKind::CROSSED => {
                let its = self.other.get(main).filter(|c| c.alias == EntryRef::to(at))?;
                Some(self.held(main, &its))
            }
            _ => Some(self.held(at, &entry)),
        }
    }

    fn held<B: IpAddress>(&self, at: u32, c: &Connection<B>) -> Held {
        let end = |address: B, port: Be16| SocketAddr::new(convert::ip(address.widen(), B::FAMILY), port.get());
        let worth = worth(c, self.now);
        Held {
            protocol: c.protocol,
            client: end(c.client, c.client_port),
            virt: end(c.virt, c.virt_port),
            why: why(worth),
            worth: worth.get(),
            place: (if B::IS_V4 { Family::V4 } else { Family::V6 }, at),
        }
    }
}

fn rank(held: &Held) -> u32 {
    Worth::new(held.worth).rank()
}

/// What an entry of a worth is, in words.
const fn why(worth: Worth) -> &'static str {
    match worth {
        Worth::EXPIRED => "which has expired",
        Worth::CLOSED => "which is closed",
        Worth::HALF_OPEN => "which is half open",
        Worth::ONE_PACKET => "of one packet, or without an answer",
        Worth::TEMPLATE => "a template without connections",
        Worth::CLOSING => "which one end has closed",
        _ => "which is in use",
    }
}
