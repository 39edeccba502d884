//! The tables of a family in two generations: see [`connections`](super::connections).

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::Ordering::SeqCst;

use lvs_common::abi::{Bucket, Connection, EntryKind, EntryRef, IpAddress, MOVED_AT_ONCE, WAYS, conn_flags, outcome};
use lvs_common::byte_order::Be16;
use lvs_common::table;

use super::super::error::Result;
use super::super::layout::{Foreign, Layouts};
use super::super::mapped::{Mapped, atomic, field, put};
use super::runner::{Runner, counted};

/// A husk's protocol, which no packet has.
const HUSK: u8 = 255;

/// What an entry is recognised by.
type Ends<A> = (A, A, Be16, Be16, u8, EntryKind);

fn ends<A: Copy>(c: &Connection<A>) -> Ends<A> {
    (c.client, c.virt, c.client_port, c.virt_port, c.protocol, c.kind)
}

/// An entry that is in both tables, as it was when it was read.
struct Pair<A> {
    from: u32,
    to: u32,
    ends: Ends<A>,
    state: u32,
    in_packets: u32,
    controlled: u32,
    engine: u64,
    toa_state: u8,
}

/// See the module.
pub struct Family<A> {
    from_buckets: Foreign<Bucket>,
    from: Foreign<Connection<A>>,
    to_buckets: Mapped<Bucket>,
    to: Mapped<Connection<A>>,
    /// What the program reads.
    moving: Mapped<Connection<A>>,
    /// Where entries have gone.
    places: HashMap<u32, u32>,
    /// Entries that are in both tables.
    pairs: Vec<Pair<A>>,
}

impl<A: IpAddress> Family<A> {
    /// The tables of two generations, whose directories these are.
    pub fn open(from: &Path, to: &Path, number: &str, layouts: &Layouts) -> Result<Self> {
        let map = |directory: &Path, name: &str| directory.join(format!("{name}{number}"));
        let mut family = Family {
            from_buckets: Foreign::open(from, &format!("BUCKETS{number}"), layouts)?,
            from: Foreign::open(from, &format!("CONNS{number}"), layouts)?,
            to_buckets: Mapped::open(&map(to, "BUCKETS"))?,
            to: Mapped::open(&map(to, "CONNS"))?,
            moving: Mapped::open(&map(to, "MOVING"))?,
            places: HashMap::new(),
            pairs: Vec::new(),
        };
        // What a command that was killed has moved.
        for at in family.occupied() {
            let c = family.from.get(at);
            if is_husk(&c) {
                family.places.insert(at, c.control.index());
            }
        }
        Ok(family)
    }

    /// Indices of the entries that are in use in the generation before.
    fn occupied(&self) -> Vec<u32> {
        let mut entries = Vec::new();
        for index in 0..self.from_buckets.count() {
            let tags = self.from_buckets.get(index).tags;
            let is_used = |way: &u32| tags[*way as usize / 4] >> (*way % 4 * 16) & 0xffff != 0;
            entries.extend((0..WAYS).filter(is_used).map(|way| table::entry(index, way)));
        }
        entries
    }

    /// Copies the entries of some kinds that have not moved: how many there were. `other` is the other family.
    pub fn copy<B: IpAddress>(
        &mut self,
        runner: &mut Runner,
        other: &Family<B>,
        is_due: fn(EntryKind) -> bool,
    ) -> Result<u32> {
        let (mut found, mut batch) = (0, Vec::new());
        for at in self.occupied() {
            let mut c = self.from.get(at);
            if is_husk(&c) || !is_due(c.kind) || self.places.contains_key(&at) || c.state & conn_flags::DEAD != 0 {
                continue;
            }
            let reference = EntryRef::to(at);
            let (place, is_held) = match c.kind {
                EntryKind::CROSSED => (other.places.get(&c.control.index()), other.holds(c.control, reference)),
                EntryKind::ALIAS => (self.places.get(&c.control.index()), self.holds(c.control, reference)),
                // A template that has ended meanwhile controls nobody.
                _ => (self.places.get(&c.control.index()), true),
            };
            if c.kind.is_alias() && place.is_none() {
                // It waits for its connection, unless that is gone.
                found += u32::from(is_held);
                continue;
            }
            found += 1;
            c.control = place.map_or(EntryRef::NONE, |place| EntryRef::to(*place));
            c.alias = EntryRef::NONE;
            batch.push((at, c));
            if batch.len() == MOVED_AT_ONCE as usize {
                self.flush(runner, other, &mut batch)?;
            }
        }
        self.flush(runner, other, &mut batch)?;
        Ok(found)
    }

    /// Whether the generation before has a connection whose alias this is.
    fn holds(&self, connection: EntryRef, alias: EntryRef) -> bool {
        let at = connection.index();
        at < self.from.count() && self.from.get(at).alias == alias
    }

    fn flush<B: IpAddress>(
        &mut self,
        runner: &mut Runner,
        other: &Family<B>,
        batch: &mut Vec<(u32, Connection<A>)>,
    ) -> Result<()> {
        let arrivals = runner.run(&self.moving, batch)?;
        for ((from, c), arrival) in batch.drain(..).zip(arrivals) {
            let to = arrival.at;
            match arrival.outcome {
                outcome::MOVED => {
                    runner.counts.moved += 1;
                    runner.follow(&c, from, to)?;
                    self.keep(from, to, &c);
                }
                outcome::EXISTS if runner.is_resumed || c.kind.is_alias() => self.keep(from, to, &c),
                // The next generation has made a connection of the same ends; or it has no room.
                result => {
                    runner.counts.lost += u32::from(result == outcome::FULL && !c.kind.is_hidden());
                    runner.unbind(&c);
                    self.places.insert(from, to);
                    self.from.set(from, &husk(to));
                    continue;
                }
            }
            match c.kind {
                EntryKind::ALIAS => self.attach(&c, to),
                EntryKind::CROSSED => other.attach(&c, to),
                _ => {}
            }
        }
        Ok(())
    }

    /// Remembers that an entry is in both tables.
    fn keep(&mut self, from: u32, to: u32, c: &Connection<A>) {
        self.places.insert(from, to);
        let Connection { state, in_packets, controlled, engine, toa_state, .. } = *c;
        self.pairs.push(Pair { from, to, ends: ends(c), state, in_packets, controlled, engine, toa_state });
    }

    /// Has the connection of an alias, which has moved, know it.
    fn attach<B>(&self, alias: &Connection<B>, at: u32) {
        let main = alias.control.index();
        if main < self.to.count() && field!(self.to, main, local_port) == alias.client_port {
            put!(self.to, main, alias, EntryRef::to(at));
        }
    }

    /// Brings the entries of the next generation what the others have learnt since they were read, and empties those.
    pub fn settle(&mut self, runner: &Runner) {
        for pair in std::mem::take(&mut self.pairs) {
            let old = self.from.get(pair.from);
            let is_there =
                ends(&self.to.get(pair.to)) == pair.ends && field!(self.to, pair.to, state) & conn_flags::DEAD == 0;
            if ends(&old) == pair.ends && is_there {
                self.bring(&pair, &old, runner);
            } else if !is_there && ends(&old) == pair.ends && self.is_wanted(&old) {
                // The sweep came by before its connection knew of it, and took it for one that is left over: it moves once more.
                self.places.remove(&pair.from);
                continue;
            }
            self.from.set(pair.from, &husk(pair.to));
        }
    }

    /// Whether it is an alias whose connection has moved and lives.
    fn is_wanted(&self, alias: &Connection<A>) -> bool {
        if alias.kind != EntryKind::ALIAS {
            // Of one whose connection is of the other family, the program that sweeps finds out.
            return alias.kind == EntryKind::CROSSED;
        }
        let main = self.places.get(&alias.control.index()).filter(|main| **main < self.to.count());
        main.is_some_and(|main| {
            let c = self.to.get(*main);
            c.state & conn_flags::DEAD == 0 && (c.local, c.local_port) == (alias.client, alias.client_port)
        })
    }

    fn bring(&mut self, pair: &Pair<A>, old: &Connection<A>, runner: &Runner) {
        let to = pair.to;
        let packets = old.in_packets.wrapping_sub(pair.in_packets);
        if packets != 0 {
            put!(self.to, to, in_packets, field!(self.to, to, in_packets).wrapping_add(packets));
        }
        let controlled = old.controlled.wrapping_sub(pair.controlled);
        if controlled != 0 {
            atomic!(self.to, to, controlled).fetch_add(controlled, SeqCst);
        }
        if old.last_seen > field!(self.to, to, last_seen) {
            put!(self.to, to, last_seen, old.last_seen);
        }
        if old.engine != pair.engine && field!(self.to, to, engine) == pair.engine {
            put!(self.to, to, engine, old.engine);
        }
        if old.toa_state != pair.toa_state && field!(self.to, to, toa_state) == pair.toa_state {
            put!(self.to, to, toa_state, old.toa_state);
        }
        if old.state == pair.state {
            return;
        }
        if atomic!(self.to, to, state).compare_exchange(pair.state, old.state, SeqCst, SeqCst).is_ok() {
            put!(self.to, to, timeout, old.timeout);
            // The sweep looks at the entry at its next turn, and sets when to come again.
            put!(self.to_buckets, to / WAYS, due, 0);
        } else if old.kind == EntryKind::CONNECTION {
            // Both have changed it, and both have moved the destination's count.
            runner.correct(old.dest, counted(pair.state).wrapping_sub(counted(old.state)));
        }
    }
}

fn is_husk<A>(c: &Connection<A>) -> bool {
    c.kind == EntryKind::ALIAS && c.protocol == HUSK
}

/// What stays of an entry that has gone to `to`.
fn husk<A: IpAddress>(to: u32) -> Connection<A> {
    Connection {
        kind: EntryKind::ALIAS,
        protocol: HUSK,
        timeout: u32::MAX,
        control: EntryRef::to(to),
        ..Connection::default()
    }
}
