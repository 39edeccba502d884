//! The program that puts connections into a table, and what the tables of both families share.

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use aya::maps::{HashMap, Map, MapData};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use lvs_common::abi::{
    Arrival, Connection, DestId, Destination, EngineData, EngineKey, EntryKind, IpAddress, MOVED_AT_ONCE, Settings,
    conn_flags, outcome,
};
use lvs_common::programs::entry;

use super::super::end::context;
use super::super::error::{Context, Result, unfit};
use super::super::mapped::{Mapped, atomic};
use super::super::pod::Pod;
use super::super::syscall;

/// Times that connections are tried again whose buckets other CPUs hold.
const TRIES: u32 = 1000;

/// What persistence engines keyed templates with.
type Engines = HashMap<MapData, Pod<EngineKey>, Pod<EngineData>>;

/// What has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries that moved: connections, templates, and those that lead replies to FullNAT's connections.
    pub moved: u32,
    /// Connections for which the next generation's table had no room.
    pub lost: u32,
}

/// See the module.
pub struct Runner {
    program: SchedClassifier,
    moved: Mapped<Arrival>,
    /// The destinations, whose counts both generations share.
    dests: Mapped<Destination, DestId>,
    settings: Mapped<Settings>,
    engines: [Engines; 2],
    /// The queues of connections that wait to be reset, of IPv4 and IPv6.
    resets: [MapData; 2],
    /// Whether a command that was killed may have moved some.
    pub is_resumed: bool,
    pub counts: Counts,
}

/// An element of the queues.
#[repr(C)]
struct PendingReset {
    at: u32,
    pad: u32,
    seen: u64,
}

fn open(directory: &Path, name: &str) -> Result<MapData> {
    MapData::from_pin(directory.join(name)).with_context(|| format!("cannot open map {name}"))
}

impl Runner {
    pub fn open(from: &Path, to: &Path, is_resumed: bool) -> Result<Self> {
        let engines =
            |directory| -> Result<Engines> { Ok(HashMap::try_from(Map::HashMap(open(directory, "ENGINES")?))?) };
        Ok(Runner {
            program: SchedClassifier::from_pin(to.join(entry::MOVE)).context("cannot open program lvs_move")?,
            moved: Mapped::open(&to.join("MOVED"))?,
            dests: Mapped::open(&to.join("DESTS"))?,
            settings: Mapped::open(&to.join("SETTINGS"))?,
            engines: [engines(from)?, engines(to)?],
            resets: [open(to, "RESETS4")?, open(to, "RESETS6")?],
            is_resumed,
            counts: Counts::default(),
        })
    }

    /// Puts connections into the table: what became of each. There are no more than [`MOVED_AT_ONCE`].
    pub fn run<A: IpAddress>(
        &self,
        moving: &Mapped<Connection<A>>,
        batch: &[(u32, Connection<A>)],
    ) -> Result<Vec<Arrival>> {
        let mut arrivals = vec![Arrival::default(); batch.len().min(MOVED_AT_ONCE as usize)];
        for _ in 0..TRIES {
            let is_open = |a: &Arrival| matches!(a.outcome, outcome::WAITING | outcome::BUSY);
            let waiting: Vec<usize> = (0..arrivals.len()).filter(|at| is_open(&arrivals[*at])).collect();
            if waiting.is_empty() {
                return Ok(arrivals);
            }
            for (place, at) in waiting.iter().enumerate() {
                moving.set(place as u32, batch[*at].1);
                self.moved.set(place as u32, Arrival::default());
            }
            let context = context([0, u32::from(!A::IS_V4), waiting.len() as u32]);
            let options =
                TestRunOptions { data_in: Some(&[0; 64]), ctx_in: Some(&context), repeat: 1, ..Default::default() };
            self.program.test_run(options).context("cannot move connections")?;
            for (place, at) in waiting.iter().enumerate() {
                arrivals[*at] = self.moved.get(place as u32);
            }
        }
        unfit("cannot move connections: other CPUs hold the table's locks")
    }

    /// What is kept beside the entries' tables of an entry that went from `from` to `to`.
    pub fn follow<A: IpAddress>(&mut self, c: &Connection<A>, from: u32, to: u32) -> Result<()> {
        if c.kind == EntryKind::TEMPLATE && c.engine != 0 {
            let key = |entry| Pod(EngineKey { entry, family: A::FAMILY as u32 });
            let [old, new] = &mut self.engines;
            // It may never have been entered, for want of room; nor may it be now.
            if let Ok(data) = old.get(&key(from), 0) {
                let _ = new.insert(key(to), data, 0);
            }
        }
        if c.kind == EntryKind::CONNECTION && c.state & conn_flags::RESETTING != 0 {
            let waiting = PendingReset { at: to, pad: 0, seen: c.last_seen };
            // A queue that is full forgets it, as the sweep would.
            if syscall::push(&self.resets[usize::from(!A::IS_V4)], &waiting).is_ok() {
                atomic!(self.settings, 0, resets).fetch_or(if A::IS_V4 { 1 } else { 2 }, SeqCst);
            }
        }
        Ok(())
    }

    /// Adds to a destination's counts: of active connections in the upper half, of inactive ones in the lower half.
    pub fn correct(&self, dest: DestId, by: u64) {
        if dest.is_some() && dest.get() < self.dests.count() {
            let destination = self.dests.at(dest);
            // SAFETY: a word of an element that `at` has checked, aligned by its type; everybody changes it by atomics.
            unsafe { AtomicU64::from_ptr(&raw mut (*destination).connections) }.fetch_add(by, SeqCst);
        }
    }

    /// Takes an entry's count from its destination.
    pub fn unbind<A>(&self, c: &Connection<A>) {
        if c.kind == EntryKind::TEMPLATE && c.dest.is_some() && c.dest.get() < self.dests.count() {
            atomic!(self.dests, c.dest, persistent).fetch_sub(1, SeqCst);
        } else {
            self.correct(c.dest, counted(c.state).wrapping_neg());
        }
    }
}

/// What a connection of this state counts for at its destination.
pub fn counted(state: u32) -> u64 {
    if state & conn_flags::INACTIVE != 0 { 1 } else { 1 << 32 }
}
