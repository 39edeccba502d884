//! The data plane's side of connection synchronisation: what packets announce, what is put into the table, and `SYNC`.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use aya::maps::{Map, MapData, RingBuf};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use lvs_common::abi::{
    Address, Announcement, Bucket, Connection, Daemon as Slot, DestId, EngineData, EngineKey, EntryKind, INCOMING,
    Incoming, IpAddress, Sync, SyncCounters, WAYS, conn_flags,
};
use lvs_common::programs::entry;
use lvs_common::sync::rules;

use super::convert;
use super::end::context;
use super::error::{Context, Result};
use super::mapped::{Mapped, field, put};
use super::plane::Plane;
use super::pod::Pod;
use crate::rules::Role;

/// What packets announce, in the order in which they did.
pub struct Announcements(RingBuf<MapData>);

impl Announcements {
    /// Shows `visit` what has been announced and not yet been read, `most` at most.
    pub fn read(&mut self, most: usize, mut visit: impl FnMut(&Announcement)) {
        for _ in 0..most {
            let Some(item) = self.0.next() else { return };
            if item.len() >= size_of::<Announcement>() {
                // SAFETY: as many bytes as an announcement has, which is integers.
                visit(&unsafe { item.as_ptr().cast::<Announcement>().read_unaligned() });
            }
        }
    }
}

/// Readable when there is something to read.
impl AsFd for Announcements {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What connections are put into the table with.
#[derive(Debug)]
pub struct Import {
    program: SchedClassifier,
    incoming: Mapped<Incoming>,
}

impl Import {
    /// Puts connections into the table, and notes in each what became of it. The caller has the data plane's lock.
    pub fn run(&self, connections: &mut [Incoming]) -> Result<()> {
        let frame = [0u8; 64];
        for part in connections.chunks_mut(INCOMING as usize) {
            (0..).zip(part.iter()).for_each(|(at, connection)| self.incoming.set(at, *connection));
            let words = context([0, 0, part.len() as u32]);
            let options =
                TestRunOptions { data_in: Some(&frame), ctx_in: Some(&words), repeat: 1, ..Default::default() };
            self.program.test_run(options).context("cannot put connections into the table")?;
            (0..).zip(part.iter_mut()).for_each(|(at, connection)| *connection = self.incoming.get(at));
        }
        Ok(())
    }
}

/// An entry as its packets would announce it, with so many jiffies left.
fn announcement<A: IpAddress>(entry: u32, c: &Connection<A>, timeout: u32) -> Announcement {
    Announcement {
        client: c.client.widen(),
        virt: c.virt.widen(),
        real: c.real.widen(),
        client_port: c.client_port,
        virt_port: c.virt_port,
        real_port: c.real_port,
        protocol: c.protocol,
        kind: c.kind,
        forward: c.forward,
        family: A::FAMILY,
        local_port: c.local_port,
        dest: c.dest,
        state: c.state,
        timeout,
        fwmark: c.fwmark,
        entry,
        engine: c.engine,
        local_id: c.local_id,
        first: c.first,
        toa_state: c.toa_state.into(),
        pad: 0,
    }
}

/// Shows what backups are told of in one bucket.
fn told_of_bucket<A: IpAddress>(
    (buckets, connections): (&Mapped<Bucket>, &Mapped<Connection<A>>),
    index: u32,
    now: u64,
    visit: &mut dyn FnMut(Announcement),
) {
    if index >= buckets.count() || field!(buckets, index, used) == 0 {
        return;
    }
    let tags = field!(buckets, index, tags);
    for way in 0..WAYS {
        if (tags[way as usize / 4] >> (way % 4 * 16)) as u16 == 0 {
            continue;
        }
        let at = index * WAYS + way;
        let c = connections.get(at);
        let left = (c.last_seen + u64::from(c.timeout)).saturating_sub(now);
        let is_over = c.state & (conn_flags::DEAD | conn_flags::INVALID) != 0 || left == 0;
        let is_told = match c.kind {
            EntryKind::TEMPLATE => true,
            EntryKind::CONNECTION => rules::is_told(c.protocol, c.state),
            _ => false,
        };
        if is_told && !is_over {
            visit(announcement(at, &c, left.min(u32::MAX.into()) as u32));
        }
    }
}

impl Plane {
    /// Shows what backups are told of in `count` buckets of each family from `from` on, whether packets have announced it or not. `false` if
    /// that was the last of the table.
    pub fn told(&self, from: u32, count: u32, visit: &mut dyn FnMut(Announcement)) -> bool {
        let now = field!(self.settings, 0, now);
        for index in from..from.saturating_add(count) {
            told_of_bucket((&self.buckets4, &self.conns4), index, now, visit);
            told_of_bucket((&self.buckets6, &self.conns6), index, now, visit);
        }
        from.saturating_add(count) < self.buckets4.count().max(self.buckets6.count())
    }

    /// Local address `id` of FullNAT; `None` if there is none.
    pub fn local_address(&self, id: u32) -> Option<Address> {
        (id != 0 && id < self.locals.count()).then(|| field!(self.locals, id, address))
    }

    /// The local addresses that are in a pool, with their numbers.
    pub fn local_addresses(&self) -> impl Iterator<Item = (IpAddr, u32)> + '_ {
        let addresses = (1..self.locals.count()).map(|id| (self.locals.get(id), id));
        let addresses = addresses.take_while(|(local, _)| local.family != 0).filter(|(local, _)| local.pools != 0);
        addresses.map(|(local, id)| (convert::ip(local.address, local.family as u8), id))
    }

    /// The address of a destination's real server, if its family is not `family`.
    pub fn other_real(&self, dest: DestId, family: u8) -> Option<Address> {
        if dest.is_none() || dest.get() >= self.dests.count() {
            return None;
        }
        let dest = self.dests.get(dest);
        (dest.family != family).then_some(dest.address)
    }

    /// Opens the ring buffer, which one process reads.
    pub fn announcements(&self) -> Result<Announcements> {
        let context = "cannot open map ANNOUNCEMENTS";
        let map = Map::from_map_data(self.open_map("ANNOUNCEMENTS")?).context(context)?;
        Ok(Announcements(RingBuf::try_from(map).context(context)?))
    }

    /// Opens what connections are put into the table with.
    pub fn import(&self) -> Result<Import> {
        let program = SchedClassifier::from_pin(self.directory.path().join(entry::IMPORT))
            .context("the data plane was loaded by another version of lvsadm")?;
        Ok(Import { program, incoming: Mapped::of(self.open_map("INCOMING")?)? })
    }

    /// Remembers what a persistence engine keyed a template with, for listings: without room for it the template works all the same.
    pub fn remember_engine(&self, key: EngineKey, text: &[u8]) {
        let mut data = EngineData { length: text.len().min(255) as u32, text: [0; 256] };
        data.text.iter_mut().zip(text.iter().take(255)).for_each(|(to, from)| *to = *from);
        if let Ok(mut engines) = self.open_hash::<Pod<EngineKey>, Pod<EngineData>>("ENGINES") {
            let _ = engines.insert(Pod(key), Pod(data), 0);
        }
    }

    /// The daemons and what they have done.
    pub fn sync(&self) -> Sync {
        self.sync.get(0)
    }

    /// Stores what a daemon has counted.
    pub fn set_sync_counters(&self, counters: &SyncCounters) {
        put!(self.sync, 0, counters, *counters);
    }

    /// Stores how many connections wait for their real server.
    pub fn set_sync_waiting(&self, count: u64) {
        put!(self.sync, 0, waiting, count);
    }

    /// What is noted of the daemon of a role.
    pub fn daemon_slot(&self, role: Role) -> Slot {
        field!(self.sync, 0, daemons)[role as usize]
    }

    /// Notes it.
    pub fn set_daemon_slot(&self, role: Role, slot: &Slot) {
        let mut slots = field!(self.sync, 0, daemons);
        slots[role as usize] = *slot;
        put!(self.sync, 0, daemons, slots);
    }
}
