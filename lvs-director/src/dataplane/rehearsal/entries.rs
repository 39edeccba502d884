//! The entries of the connection table that a packet may meet: they are put into the copy's table. If the table is full, all are, each in its
//! place: what gives way depends on what is beside it.

use lvs_common::abi::{Bucket, Connection, EntryKind, EntryRef, IpAddress, WAYS, conn_flags, outcome};
use lvs_common::{challenge, table};

use super::super::convert;
use super::super::error::Result;
use super::super::generation::Runner;
use super::super::mapped::{Mapped, field, put};
use super::super::plane::Plane;
use super::super::syscall;
use super::subject::Subject;
use crate::rules::Family;

/// The tables of a family.
struct Tables<'a, A> {
    buckets: &'a Mapped<Bucket>,
    connections: &'a Mapped<Connection<A>>,
}

/// Copies entries that a packet may meet from one plane's table to another's, without its connections unless it `has_connections`.
pub fn bring(from: &Plane, to: &Plane, runner: &Runner, subject: &Subject, has_connections: bool) -> Result<()> {
    match subject.family() {
        Family::V4 => {
            let moving = Mapped::open(&to.directory.path().join("MOVING4"))?;
            let tables = Tables { buckets: &from.buckets4, connections: &from.conns4 };
            tables.bring(&to.conns4, &moving, runner, subject, has_connections)
        }
        Family::V6 => {
            let moving = Mapped::open(&to.directory.path().join("MOVING6"))?;
            let tables = Tables { buckets: &from.buckets6, connections: &from.conns6 };
            tables.bring(&to.conns6, &moving, runner, subject, has_connections)
        }
    }
}

/// Copies every entry to the same place of a table of the same size.
pub fn copy(from: &Plane, to: &Plane) {
    copy_table((&from.buckets4, &from.conns4), (&to.buckets4, &to.conns4));
    copy_table((&from.buckets6, &from.conns6), (&to.buckets6, &to.conns6));
}

fn copy_table<A: IpAddress>(
    from: (&Mapped<Bucket>, &Mapped<Connection<A>>),
    to: (&Mapped<Bucket>, &Mapped<Connection<A>>),
) {
    for index in 0..from.0.count().min(to.0.count()) {
        let bucket = from.0.get(index);
        // Packets go on meanwhile. The copy has no holder of the lock, and counts what was copied.
        to.0.set(index, Bucket { lock: 0, used: ways(&bucket).count() as u32, ..bucket });
        for at in ways(&bucket).map(|way| table::entry(index, way)) {
            to.1.set(at, from.1.get(at));
        }
    }
}

/// Takes a packet's connections out of a copy of the whole table.
pub fn forget(copy: &Plane, subject: &Subject) {
    match subject.family() {
        Family::V4 => forget_in(&copy.buckets4, &copy.conns4, subject),
        Family::V6 => forget_in(&copy.buckets6, &copy.conns6, subject),
    }
}

fn forget_in<A: IpAddress>(buckets: &Mapped<Bucket>, connections: &Mapped<Connection<A>>, subject: &Subject) {
    let is_due = |at: &u32| is_of(&connections.get(*at), subject);
    for at in occupied(buckets).filter(is_due).collect::<Vec<_>>() {
        put!(connections, at, state, field!(connections, at, state) | conn_flags::DEAD);
        let mut bucket = buckets.get(at / WAYS);
        bucket.tags[(at % WAYS / 4) as usize] &= !(0xffff << (at % 4 * 16));
        bucket.used = ways(&bucket).count() as u32;
        buckets.set(at / WAYS, bucket);
    }
}

/// Copies whether a packet's source has answered a challenge.
pub fn verify(from: &Plane, to: &Plane, subject: &Subject) -> Result<()> {
    let address = convert::address(subject.source.ip());
    let source = match subject.family() {
        Family::V4 => challenge::source(address.0[0]),
        Family::V6 => challenge::source(address.0),
    };
    let mut value = [0; size_of::<challenge::Verified>()];
    if syscall::get_bytes(&from.open_map("VERIFIED")?, &source.to_ne_bytes(), &mut value).is_ok() {
        syscall::put_bytes(&to.open_map("VERIFIED")?, &source.to_ne_bytes(), &value)?;
    }
    Ok(())
}

/// Where the entries of a table are that are in use.
pub fn occupied(buckets: &Mapped<Bucket>) -> impl Iterator<Item = u32> + '_ {
    (0..buckets.count()).flat_map(move |index| ways(&buckets.get(index)).map(move |way| table::entry(index, way)))
}

/// The ways of a bucket that are in use.
fn ways(bucket: &Bucket) -> impl Iterator<Item = u32> + use<> {
    let tags = bucket.tags;
    (0..WAYS).filter(move |way| tags[*way as usize / 4] >> (*way % 4 * 16) & 0xffff != 0)
}

/// Whether an entry is a template that may lead a client: its address under some mask.
fn may_lead<A: IpAddress>(c: &Connection<A>, subject: &Subject) -> bool {
    let (masked, client) = (c.client.widen().0, convert::address(subject.source.ip()).0);
    c.kind == EntryKind::TEMPLATE && masked.iter().zip(client).all(|(masked, client)| masked & client == *masked)
}

/// Whether an entry's client, or the local end of an alias, is one of the packet's ends.
pub fn is_of<A: IpAddress>(c: &Connection<A>, subject: &Subject) -> bool {
    let ends = [subject.source, subject.destination];
    let is = |end: &std::net::SocketAddr| {
        convert::address(end.ip()) == c.client.widen() && end.port() == c.client_port.get()
    };
    c.kind != EntryKind::TEMPLATE && c.protocol == subject.protocol && ends.iter().any(is)
}

impl<A: IpAddress> Tables<'_, A> {
    fn bring(
        &self,
        to: &Mapped<Connection<A>>,
        moving: &Mapped<Connection<A>>,
        runner: &Runner,
        subject: &Subject,
        has_connections: bool,
    ) -> Result<()> {
        let lives = |c: &Connection<A>| c.state & conn_flags::DEAD == 0;
        let entries: Vec<(u32, Connection<A>)> =
            occupied(self.buckets).map(|at| (at, self.connections.get(at))).filter(|(_, c)| lives(c)).collect();
        let templates: Vec<_> = entries.iter().filter(|(_, c)| may_lead(c, subject)).copied().collect();
        let places = self.put(templates, moving, runner)?;
        if !has_connections {
            return Ok(());
        }
        // An alias comes with its connection, of the same family.
        let aliases: Vec<_> =
            entries.iter().filter(|(_, c)| c.kind == EntryKind::ALIAS && is_of(c, subject)).copied().collect();
        let is_due = |(at, c): &&(u32, Connection<A>)| {
            let has_alias = || aliases.iter().any(|(_, alias)| alias.control == EntryRef::to(*at));
            c.kind != EntryKind::TEMPLATE && !c.kind.is_alias() && (is_of(c, subject) || has_alias())
        };
        let place = |places: &[(u32, u32)], of: EntryRef| {
            let found = places.iter().find(|(from, _)| of == EntryRef::to(*from));
            found.map_or(EntryRef::NONE, |(_, to)| EntryRef::to(*to))
        };
        let connections = entries.iter().filter(is_due).map(|(at, c)| {
            let control = place(&places, c.control);
            (*at, Connection { control, alias: EntryRef::NONE, ..*c })
        });
        let mains = self.put(connections.collect(), moving, runner)?;
        let is_there = |(_, c): &&(u32, Connection<A>)| place(&mains, c.control) != EntryRef::NONE;
        let aliases: Vec<_> = aliases
            .iter()
            .filter(is_there)
            .map(|(at, c)| (*at, Connection { control: place(&mains, c.control), ..*c }))
            .collect();
        let controls: Vec<u32> = aliases.iter().map(|(_, c)| c.control.index()).collect();
        for (main, (_, alias)) in controls.into_iter().zip(self.put(aliases, moving, runner)?) {
            if main < to.count() && field!(to, main, local_id) != 0 {
                put!(to, main, alias, EntryRef::to(alias));
            }
        }
        Ok(())
    }

    /// Puts entries into the copy's table: where each was, and where it is.
    fn put(
        &self,
        entries: Vec<(u32, Connection<A>)>,
        moving: &Mapped<Connection<A>>,
        runner: &Runner,
    ) -> Result<Vec<(u32, u32)>> {
        let mut places = Vec::new();
        for batch in entries.chunks(lvs_common::abi::MOVED_AT_ONCE as usize) {
            let arrivals = runner.run(moving, batch)?;
            let there =
                batch.iter().zip(arrivals).filter(|(_, it)| matches!(it.outcome, outcome::MOVED | outcome::EXISTS));
            places.extend(there.map(|((from, _), arrival)| (*from, arrival.at)));
        }
        Ok(places)
    }
}
