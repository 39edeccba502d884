//! Lists of clients in the maps.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Map, MapError};
use lvs_common::abi::{
    AF_INET, AF_INET6, Address, FOR_GOOD, LIST_BITS4, LIST_BITS6, ListEntry, ListKey4, ListKey6, ServiceId,
};
use lvs_common::access;
use lvs_common::exit::Exit;

use super::convert;
use super::error::{Context, Result};
use super::plane::{Plane, absent};
use super::pod::Pod;
use super::syscall;
use crate::director;
use crate::rules::{AccessEntry, AccessKind, AccessRule, Prefix};

const SECOND: u64 = 1_000_000_000;

/// An entry, with the number of the list that it is on.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    list: u32,
    prefix: Prefix,
    until: u64,
    packets: u64,
}

impl Row {
    fn key4(&self) -> Key<Pod<ListKey4>> {
        let address = convert::address(self.prefix.address).0[0];
        Key::new(LIST_BITS4 + u32::from(self.prefix.length), Pod(ListKey4 { list: self.list, address }))
    }

    fn key6(&self) -> Key<Pod<ListKey6>> {
        let address = convert::address(self.prefix.address).0;
        Key::new(LIST_BITS6 + u32::from(self.prefix.length), Pod(ListKey6 { list: self.list, pad: 0, address }))
    }

    fn entry(&self) -> Pod<ListEntry> {
        let length = self.prefix.length.into();
        Pod(ListEntry { until: self.until, packets: self.packets, length, pad: 0 })
    }

    fn of(list: u32, address: Address, family: u8, Pod(entry): Pod<ListEntry>) -> Self {
        let prefix = Prefix { address: convert::ip(address, family), length: entry.length as u8 };
        Row { list, prefix, until: entry.until, packets: entry.packets }
    }
}

/// Which rows of a list are no more than what is left of entries that have ended. A list of allowed clients keeps the last one:
/// without any it would let everybody in.
fn ended(kind: AccessKind, rows: &[Row], now: u64) -> Vec<Row> {
    let mut ended: Vec<Row> = rows.iter().filter(|row| row.until <= now).copied().collect();
    if kind == AccessKind::Allow && ended.len() == rows.len() {
        ended.sort_by_key(|row| row.until);
        ended.pop();
    }
    ended
}

/// `CLOCK_MONOTONIC`, as packets read it, ns.
fn clock() -> Result<u64> {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).context("cannot read the clock")?;
    Ok(time.tv_sec() as u64 * SECOND + time.tv_nsec() as u64)
}

/// A list as it is listed.
fn entries(kind: AccessKind, rows: &[Row], now: u64) -> Vec<AccessEntry> {
    let ended: HashSet<Prefix> = ended(kind, rows, now).iter().map(|row| row.prefix).collect();
    let mut entries: Vec<AccessEntry> = rows
        .iter()
        .filter(|row| !ended.contains(&row.prefix))
        .map(|row| {
            let left = row.until.saturating_sub(now).div_ceil(SECOND).min(u32::MAX.into()) as u32;
            let seconds = (row.until != FOR_GOOD).then_some(left);
            AccessEntry { rule: AccessRule { prefix: row.prefix, seconds }, packets: row.packets }
        })
        .collect();
    entries.sort_by_key(|entry| entry.rule.prefix);
    entries
}

/// All rows there are, by the numbers of their lists.
pub type Rows = HashMap<u32, Vec<Row>>;

impl Plane {
    /// The number of a list, 0 of one without entries.
    fn list_number(&self, kind: AccessKind, id: ServiceId) -> u32 {
        let config = self.service_config(id);
        match kind {
            AccessKind::Block => config.blocked,
            AccessKind::Allow => config.allowed,
        }
    }

    /// Whether a service has this list, or all services have.
    pub fn has_list(&self, kind: AccessKind, id: ServiceId) -> bool {
        self.list_number(kind, id) != 0
    }

    /// Whether a service has a list.
    pub fn has_lists(&self, id: ServiceId) -> bool {
        AccessKind::ALL.iter().any(|kind| self.has_list(*kind, id))
    }

    /// Why a client may not come in to a service, by the functions that packets ask.
    pub fn refusal(&self, rows: &Rows, id: ServiceId, client: IpAddr) -> Result<Option<Exit>> {
        let lists = |id| {
            let config = self.service_config(id);
            access::Lists { blocked: config.blocked, allowed: config.allowed }
        };
        let now = clock()?;
        let covers = |row: &Row| {
            let same = Prefix::parse(&format!("{client}/{}", row.prefix.length)).is_ok_and(|other| other == row.prefix);
            let Pod(entry) = row.entry();
            same && access::is_in_force(&entry, || now)
        };
        let is_on = |list: u32| rows.get(&list).is_some_and(|rows| rows.iter().any(covers));
        Ok(access::refusal(lists(ServiceId::NONE), lists(id), is_on))
    }

    /// Reads all lists.
    pub fn list_rows(&self) -> Result<Rows> {
        let mut rows = Rows::new();
        let mut add = |row: Row| rows.entry(row.list).or_default().push(row);
        let (key4, key6, entry) = (Pod(ListKey4::default()), Pod(ListKey6::default()), Pod(ListEntry::default()));
        for (key, entry) in syscall::read(&self.open_map("LISTS4")?, Key::new(0, key4), entry)? {
            let Pod(ListKey4 { list, address }) = key.data();
            add(Row::of(list, Address([address, 0, 0, 0]), AF_INET, entry));
        }
        for (key, entry) in syscall::read(&self.open_map("LISTS6")?, Key::new(0, key6), entry)? {
            let Pod(ListKey6 { list, address, .. }) = key.data();
            add(Row::of(list, Address(address), AF_INET6, entry));
        }
        Ok(rows)
    }

    /// The entries of a service's list, or of that for all services; `rows` are all there are.
    pub fn list_entries(&self, rows: &Rows, kind: AccessKind, id: ServiceId) -> Result<Vec<AccessEntry>> {
        let rows = rows.get(&self.list_number(kind, id)).map_or(&[][..], Vec::as_slice);
        Ok(entries(kind, rows, clock()?))
    }

    /// How many entries a list may have.
    pub fn list_room(&self) -> Result<u32> {
        Ok(self.open_map("LISTS4")?.info().context("cannot look at map LISTS4")?.max_entries() / 2)
    }

    /// Stages another list for a service, or for all.
    pub fn write_list(&mut self, kind: AccessKind, id: ServiceId, entries: &[AccessEntry]) -> director::Result<()> {
        let mut number = 0;
        if !entries.is_empty() {
            let room = self.list_room()?;
            if entries.len() > room as usize {
                return Err(no_room(room));
            }
            number = self.settings().lists.wrapping_add(1).max(1);
            self.set(|s| s.lists = number);
            self.put_rows(&rows(number, entries)?)?;
        }
        self.change_service(id, |config| match kind {
            AccessKind::Block => config.blocked = number,
            AccessKind::Allow => config.allowed = number,
        });
        Ok(())
    }

    /// Adds entries to a list that has some, in the place of those of the same prefixes: packets see each at once.
    pub fn add_to_list(&mut self, kind: AccessKind, id: ServiceId, rules: &[AccessRule]) -> director::Result<()> {
        let entries: Vec<_> = rules.iter().map(|rule| AccessEntry { rule: *rule, packets: 0 }).collect();
        let mut rows = rows(self.list_number(kind, id), &entries)?;
        for row in &mut rows {
            row.packets = self.same_row(row)?.map_or(0, |before| before.packets);
        }
        if self.put_rows(&rows).is_err() {
            self.collect_lists(&self.list_rows()?)?;
            self.put_rows(&rows)?;
        }
        Ok(())
    }

    /// Takes entries from a list. An error if one is not there, and nothing is changed then. Whether any are left is the answer;
    /// if none are, they are still there: the list as a whole is to go.
    pub fn take_from_list(
        &mut self,
        kind: AccessKind,
        id: ServiceId,
        prefixes: &[Prefix],
        all: &Rows,
    ) -> director::Result<bool> {
        let list = self.list_number(kind, id);
        let mut gone = HashSet::new();
        for prefix in prefixes {
            let row = Row { list, prefix: *prefix, until: 0, packets: 0 };
            if list == 0 || self.same_row(&row)?.is_none() {
                return Err(director::Error::Other(format!(
                    "{prefix} is not on the list: see `lvsadm {}'",
                    kind.name()
                )));
            }
            gone.insert(*prefix);
        }
        let rows = all.get(&list).map_or(&[][..], Vec::as_slice);
        if rows.iter().all(|row| gone.contains(&row.prefix)) {
            return Ok(false);
        }
        let gone: Vec<Row> = rows.iter().filter(|row| gone.contains(&row.prefix)).copied().collect();
        self.remove_rows(&gone)?;
        Ok(true)
    }

    /// Removes what no list in force needs: rows of lists that were replaced or whose services are gone, and entries that have
    /// ended. `rows` are all there are.
    pub fn collect_lists(&self, rows: &Rows) -> Result<()> {
        let now = clock()?;
        let services = (0..self.settings().services_used).map(ServiceId::new);
        let present = services.filter(|id| id.is_none() || self.is_present(*id));
        let in_force: HashMap<u32, AccessKind> =
            present.flat_map(|id| AccessKind::ALL.map(|kind| (self.list_number(kind, id), kind))).collect();
        for (list, rows) in rows {
            match in_force.get(list) {
                Some(kind) => self.remove_rows(&ended(*kind, rows, now))?,
                None => self.remove_rows(rows)?,
            }
        }
        Ok(())
    }

    /// Waits until every packet that may know a list as it was is through.
    pub fn wait_for_packets() {
        if syscall::wait_for_programs().is_err() {
            // The kernel has no such call for this process: a packet takes microseconds.
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The row of the same list and prefix.
    fn same_row(&self, wanted: &Row) -> Result<Option<Row>> {
        let found: Result<Pod<ListEntry>, MapError> = if wanted.prefix.address.is_ipv4() {
            let trie = LpmTrie::try_from(Map::LpmTrie(self.open_map("LISTS4")?))?;
            trie.get(&wanted.key4(), 0)
        } else {
            let trie = LpmTrie::try_from(Map::LpmTrie(self.open_map("LISTS6")?))?;
            trie.get(&wanted.key6(), 0)
        };
        match found {
            // One with a shorter prefix is another.
            Ok(Pod(entry)) if entry.length != wanted.prefix.length.into() => Ok(None),
            Ok(Pod(entry)) => Ok(Some(Row { until: entry.until, packets: entry.packets, ..*wanted })),
            Err(error) if absent(&error) => Ok(None),
            Err(error) => Err(error).context("cannot look into a list"),
        }
    }

    /// Stores rows.
    pub fn put_rows(&self, rows: &[Row]) -> director::Result<()> {
        let (v4, v6): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.prefix.address.is_ipv4());
        let entries = |rows: &[&Row]| rows.iter().map(|row| row.entry()).collect::<Vec<_>>();
        let keys4: Vec<_> = v4.iter().map(|row| row.key4()).collect();
        let keys6: Vec<_> = v6.iter().map(|row| row.key6()).collect();
        let put = syscall::update(&self.open_map("LISTS4")?, &keys4, &entries(&v4)).and_then(|()| {
            syscall::update(&self.open_map("LISTS6").map_err(std::io::Error::other)?, &keys6, &entries(&v6))
        });
        match put {
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => Err(no_room(self.list_room()?)),
            other => other.context("cannot write a list").map_err(Into::into),
        }
    }

    /// Removes rows, which are there.
    fn remove_rows(&self, rows: &[Row]) -> Result<()> {
        let (v4, v6): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.prefix.address.is_ipv4());
        let keys4: Vec<_> = v4.iter().map(|row| row.key4()).collect();
        let keys6: Vec<_> = v6.iter().map(|row| row.key6()).collect();
        let context = "cannot remove entries of a list";
        syscall::delete(&self.open_map("LISTS4")?, &keys4).context(context)?;
        syscall::delete(&self.open_map("LISTS6")?, &keys6).context(context)
    }
}

/// Entries as rows of a list, from now on.
fn rows(list: u32, entries: &[AccessEntry]) -> Result<Vec<Row>> {
    let now = clock()?;
    let until = |seconds: Option<u32>| seconds.map_or(FOR_GOOD, |seconds| now + u64::from(seconds) * SECOND);
    let row = |&AccessEntry { rule, packets }: &AccessEntry| Row {
        list,
        prefix: rule.prefix,
        until: until(rule.seconds),
        packets,
    };
    Ok(entries.iter().map(row).collect())
}

fn no_room(room: u32) -> director::Error {
    director::Error::Other(format!(
        "lists have room for {room} entries: `lvsadm unload', and load it again with more LVS_LISTS in /etc/default/lvsadm"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(untils: &[u64]) -> Vec<Row> {
        let prefix = |host: u8| Prefix { address: [192, 0, 2, host].into(), length: 32 };
        (1..)
            .zip(untils)
            .map(|(host, until)| Row { list: 1, prefix: prefix(host), until: *until, packets: 3 })
            .collect()
    }

    #[test]
    fn what_has_ended_is_not_listed_but_an_allowed_list_stays_one() {
        let now = 10 * SECOND;
        let shown = |kind, untils: &[u64]| -> Vec<String> {
            entries(kind, &rows(untils), now).iter().map(|entry| entry.rule.to_string()).collect()
        };
        for kind in AccessKind::ALL {
            assert_eq!(
                shown(kind, &[FOR_GOOD, now, now + 1, now + 90 * SECOND]),
                ["192.0.2.1", "192.0.2.3 --for 1s", "192.0.2.4 --for 1m30s"]
            );
        }
        assert!(shown(AccessKind::Block, &[1, now, 2]).is_empty());
        assert_eq!(shown(AccessKind::Allow, &[1, now, 2]), ["192.0.2.2 --for 1s"]);
        assert!(shown(AccessKind::Allow, &[]).is_empty());
    }
}
