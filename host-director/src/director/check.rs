//! What holds in a director's tables whenever no packet is under way.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::hash::Hash;

use lvs_common::abi::{
    Address, CHUNK_PORTS, Connection, DestId, Destination, EntryKind, EntryRef, IpAddress, WAYS, conn_flags,
};
use lvs_common::byte_order::Be16;
use lvs_common::table::{PROBES, tag_at};

use crate::director::host::Director;
use crate::director::rules::Ip;
use crate::director::sizes;
use crate::kernel::params;
use crate::kernel::shared::element;
use crate::maps::{DESTS, LOCALS, PORTS};
use crate::table::entry::Entry;
use crate::table::{find, store};

/// An entry that stands in a table: its index and a copy.
pub type Standing<A> = (u32, Connection<A>);

impl Director {
    /// Every entry of a family's table.
    pub fn entries<A: IpAddress>(&self) -> Vec<Standing<A>> {
        self.kernel.enter(entries::<A>)
    }

    /// Where a family's table has entries that are wanted.
    pub fn places<A: IpAddress>(&self, is_wanted: impl Fn(&Connection<A>) -> bool) -> Vec<u32> {
        self.kernel.enter(|| standing::<A>().filter(|(_, entry)| is_wanted(entry.get())).map(|(at, _)| at).collect())
    }

    /// The entry of a place.
    pub fn entry<A: IpAddress>(&self, at: u32) -> Option<Connection<A>> {
        self.kernel.enter(|| store::entry::<A>(at).map(|entry| *entry.get()))
    }

    /// Finds what contradicts itself: a line for each.
    pub fn contradictions(&self) -> Vec<String> {
        self.kernel.enter(|| {
            let (v4, v6) = (entries::<u32>(), entries::<[u32; 4]>());
            let mut found = Vec::new();
            check_table(&v4, &mut found);
            check_table(&v6, &mut found);
            check_aliases::<u32, [u32; 4]>(&v4, &v6, &mut found);
            check_aliases::<[u32; 4], u32>(&v6, &v4, &mut found);
            check_counts(&v4, &v6, &mut found);
            check_ports(&v4, &v6, &mut found);
            found
        })
    }
}

/// The entries that stand in a family's table.
fn standing<A: IpAddress>() -> impl Iterator<Item = (u32, Entry<A>)> {
    (0..params::buckets4()).flat_map(|bucket| (0..WAYS).filter_map(move |way| store::occupied::<A>(bucket, way)))
}

fn entries<A: IpAddress>() -> Vec<Standing<A>> {
    standing().map(|(at, entry)| (at, *entry.get())).collect()
}

/// A connection is in one place, where its hash leads, and the buckets say so.
fn check_table<A: IpAddress + Debug + Hash + Eq>(all: &[Standing<A>], found: &mut Vec<String>) {
    let buckets = params::buckets4();
    let mut overflow = vec![0u32; buckets as usize];
    let mut seen = HashSet::new();
    for (at, c) in all {
        let (hash, bucket) = (find::hash_of(c), at / WAYS);
        let place = store::bucket::<A>(bucket).expect("a bucket of the table");
        let end = c.last_seen.saturating_add(c.timeout.into()).saturating_add(1);
        if !c.kind.is_alias() && place.get().due > end {
            found.push(format!("entry {at} ends at {end}, and is not looked at before {}: {c:?}", place.get().due));
        }
        // SAFETY: a bucket of the table.
        let tag = unsafe { tag_at(place.as_ptr(), at % WAYS) };
        if tag != hash.tag() {
            found.push(format!("entry {at} has another connection's tag: {c:?}"));
        }
        match (0..PROBES).find(|probe| hash.choice(*probe, buckets) == bucket) {
            Some(probe) => (0..probe).for_each(|passed| overflow[hash.choice(passed, buckets) as usize] += 1),
            None => found.push(format!("entry {at} stands where its hash does not lead: {c:?}")),
        }
        if c.state & conn_flags::DEAD != 0 {
            found.push(format!("entry {at} is dead and has a tag: {c:?}"));
        }
        let virt = if c.kind == EntryKind::ANSWER { (c.real, c.real_port) } else { (c.virt, c.virt_port) };
        let engine = if c.kind == EntryKind::TEMPLATE { c.engine } else { 0 };
        let identity = (c.client, c.client_port, virt, c.protocol, kind(c.kind), engine);
        // Templates that were set aside run out beside the one that decides now.
        let is_aside = c.state & conn_flags::INVALID != 0;
        if !is_aside && !seen.insert(identity) {
            found.push(format!("entry {at} is there twice: {c:?}"));
        }
    }
    for bucket in 0..buckets {
        let place = store::bucket::<A>(bucket).expect("a bucket of the table").get();
        let used = all.iter().filter(|(at, _)| at / WAYS == bucket).count() as u32;
        if place.used != used || place.lock != 0 {
            found.push(format!("bucket {bucket} has {used} entries, and says {place:?}"));
        }
        if place.overflow < overflow[bucket as usize] {
            found
                .push(format!("bucket {bucket} was passed by {} times, and says {place:?}", overflow[bucket as usize]));
        }
    }
}

/// The kind as what can be compared.
fn kind(kind: EntryKind) -> u8 {
    [EntryKind::CONNECTION, EntryKind::TEMPLATE, EntryKind::ALIAS, EntryKind::CROSSED, EntryKind::ANSWER]
        .iter()
        .position(|other| *other == kind)
        .unwrap_or(usize::MAX) as u8
}

/// An alias and its connection know each other.
fn check_aliases<A: IpAddress + Debug, B: IpAddress>(
    own: &[Standing<A>],
    other: &[Standing<B>],
    found: &mut Vec<String>,
) {
    let by_index: HashMap<u32, &Connection<A>> = own.iter().map(|(at, c)| (*at, c)).collect();
    let other_by_index: HashMap<u32, &Connection<B>> = other.iter().map(|(at, c)| (*at, c)).collect();
    for (at, c) in own {
        let alias = match c.kind {
            EntryKind::ALIAS => by_index.get(&c.control.index()).map(|c| c.alias),
            EntryKind::CROSSED => other_by_index.get(&c.control.index()).map(|c| c.alias),
            EntryKind::CONNECTION if c.local_id != 0 => {
                let kind = if c.is_crossed() {
                    other_by_index.get(&c.alias.index()).map(|alias| (alias.kind, alias.control))
                } else {
                    by_index.get(&c.alias.index()).map(|alias| (alias.kind, alias.control))
                };
                let wanted = if c.is_crossed() { EntryKind::CROSSED } else { EntryKind::ALIAS };
                if kind != Some((wanted, EntryRef::to(*at))) {
                    found.push(format!("connection {at} has no alias: {c:?}"));
                }
                continue;
            }
            _ => continue,
        };
        if alias != Some(EntryRef::to(*at)) {
            found.push(format!("alias {at} has no connection: {c:?}"));
        }
    }
}

/// What is counted is what is there.
fn check_counts(v4: &[Standing<u32>], v6: &[Standing<[u32; 4]>], found: &mut Vec<String>) {
    let mut counted: HashMap<DestId, (u32, u32, u32)> = HashMap::new();
    count(v4, &mut counted);
    count(v6, &mut counted);
    for id in (1..sizes::DESTINATIONS).map(DestId::new) {
        let Some(dest) = element(&DESTS, id.get()) else { continue };
        let (active, inactive) = Destination::split(dest.get().connections);
        let told = (active, inactive, dest.get().persistent);
        let there = counted.get(&id).copied().unwrap_or_default();
        if told != there {
            found.push(format!("destination {id} says (active, inactive, templates) {told:?}, and has {there:?}"));
        }
    }
    check_controlled(v4, found);
    check_controlled(v6, found);
}

fn count<A>(all: &[Standing<A>], counted: &mut HashMap<DestId, (u32, u32, u32)>) {
    for (_, c) in all {
        let of = counted.entry(c.dest).or_default();
        match c.kind {
            EntryKind::CONNECTION if c.state & conn_flags::INACTIVE == 0 => of.0 += 1,
            EntryKind::CONNECTION => of.1 += 1,
            EntryKind::TEMPLATE => of.2 += 1,
            _ => {}
        }
    }
}

/// A template controls as many connections as say so.
fn check_controlled<A>(all: &[Standing<A>], found: &mut Vec<String>) {
    let mut controlled: HashMap<u32, u32> = HashMap::new();
    for (_, c) in all.iter().filter(|(_, c)| c.kind == EntryKind::CONNECTION) {
        if let Some(template) = c.control.get() {
            *controlled.entry(template).or_default() += 1;
        }
    }
    for (at, c) in all {
        let there = controlled.remove(at).unwrap_or(0);
        if c.kind == EntryKind::TEMPLATE && c.controlled != there {
            found.push(format!("template {at} says that it controls {}, and does {there}", c.controlled));
        }
    }
    for (at, _) in controlled {
        found.push(format!("a connection is controlled by {at}, which is not there"));
    }
}

/// A port is taken by one connection, and every connection of FullNAT has taken one.
fn check_ports(v4: &[Standing<u32>], v6: &[Standing<[u32; 4]>], found: &mut Vec<String>) {
    let local = |c: &(u32, u16)| *c;
    let of4 = v4.iter().filter(|(_, c)| c.kind == EntryKind::CONNECTION && c.local_id != 0);
    let of6 = v6.iter().filter(|(_, c)| c.kind == EntryKind::CONNECTION && c.local_id != 0);
    let ends: Vec<(u32, u16)> = of4
        .map(|(_, c)| (c.local_id, c.local_port.get()))
        .chain(of6.map(|(_, c)| (c.local_id, c.local_port.get())))
        .collect();
    let mut by_address: HashMap<u32, u32> = HashMap::new();
    ends.iter().map(local).for_each(|(id, _)| *by_address.entry(id).or_default() += 1);
    for id in 1..LOCALS.count() {
        let told = LOCALS.get(id).map_or(0, |local| local.conns);
        let there = by_address.get(&id).copied().unwrap_or(0);
        if told != there {
            found.push(format!("local address {id} says {told} connections, and has {there}"));
        }
    }
    let mut taken = 0;
    for chunk in PORTS.values() {
        // SAFETY: an element of the map, while no program runs.
        let chunk = unsafe { &*chunk };
        let bits: u32 = chunk.bits.iter().map(|word| word.count_ones()).sum();
        if bits != chunk.taken || bits > CHUNK_PORTS {
            found.push(format!("a chunk of ports says {} are taken, and {bits} are", chunk.taken));
        }
        taken += bits as usize;
    }
    if taken != ends.len() {
        found.push(format!("{taken} ports are taken by {} connections", ends.len()));
    }
}

impl Director {
    /// The ends that a connection between families has in its real server's: the server's and the local one.
    pub fn crossed<A: IpAddress>(&self, c: &Connection<A>) -> Option<((Ip, u16), (Ip, u16))> {
        self.kernel.enter(|| {
            let (dest, local) = (element(&DESTS, c.dest.get())?.get(), LOCALS.get(c.local_id)?);
            let end = |family: u8, address: Address, port: Be16| (Ip { family, address }, port.get());
            Some((end(dest.family, dest.address, c.real_port), end(local.family as u8, local.address, c.local_port)))
        })
    }
}
