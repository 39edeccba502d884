//! How much the tables hold, and how many elements their maps have for that.

use std::path::Path;

use lvs_common::abi::{
    Bucket, Connection, Counters, Destination, Idle, Rates, RosterPart, Service, WAYS, counter_places,
};

use crate::director::Room;

/// Connections a bucket holds on average when the table is full: beyond, single buckets overflow.
const FILL: u32 = WAYS * 3 / 4;

/// Services and destinations that there can be at most.
pub const MOST_SERVICES: u32 = 1 << 16;
/// See [`MOST_SERVICES`].
pub const MOST_DESTINATIONS: u32 = 1 << 17;

/// Addresses that lblc and lblcr remember at least, and at most.
const LOCALITIES: (u32, u32) = (1 << 13, 1 << 16);

/// Templates of persistence engines at most.
const ENGINES: u32 = 1 << 16;

/// Verified sources that are remembered at least: of fewer, the kernel's lists for each CPU would forget the newest.
const LEAST_VERIFIED: u32 = 1 << 14;

/// Chunks of local ports there is room for at least; beyond, as many as connections, of which each is in one.
const LEAST_PORTS: u32 = 1 << 16;

/// Entries of lists that there can be at most: see [`list_elements`].
pub const MOST_LISTED: u32 = u32::MAX / 2;

/// Entries of lists, unless somebody wants more: memory is taken when they come.
const LISTS: u32 = 65_536;

/// How much the tables hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Connections and templates of each family.
    pub connections: u32,
    /// Virtual services.
    pub services: u32,
    /// Destinations of all services together.
    pub destinations: u32,
    /// Entries of lists of clients, for each family.
    pub lists: u32,
}

impl Sizes {
    /// What suits the host in the initial network namespace, and little in any other.
    pub fn of_host() -> Self {
        if is_initial() { Self::large() } else { Self::SMALL }
    }

    /// With room for what is going to be configured, as far as there can be, and as much again.
    pub fn with_room_for(self, room: Room) -> Self {
        let at_least = |usual: u32, needed: u32, most| usual.max(needed.saturating_mul(2).min(most));
        Sizes {
            services: at_least(self.services, room.services, MOST_SERVICES),
            destinations: at_least(self.destinations, room.destinations, MOST_DESTINATIONS),
            ..self
        }
    }

    /// For a container: some 30 MB.
    pub const SMALL: Sizes = Sizes { connections: 1 << 14, services: 1 << 12, destinations: 10 << 10, lists: LISTS };

    /// As much as is reasonable: connections take a 128th of the memory at most.
    fn large() -> Self {
        // SAFETY: plain queries.
        let memory = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) as u64 * libc::sysconf(libc::_SC_PAGESIZE) as u64 };
        let connections = (memory / 128 / 430).clamp(1 << 14, 1 << 20) as u32;
        Sizes { connections, services: MOST_SERVICES, destinations: MOST_DESTINATIONS, lists: LISTS }
    }
}

/// Whether this is the initial network namespace: no other has this switch.
fn is_initial() -> bool {
    Path::new("/proc/sys/net/core/netdev_budget").exists()
}

/// A map whose size is decided when it is loaded.
#[derive(Clone, Copy, Debug)]
pub struct Sized {
    /// Its name.
    pub map: &'static str,
    /// How many elements it has.
    pub elements: u32,
    /// Bytes that the kernel takes for each of them when it makes the map. It takes memory for elements of tries, and of some hash tables,
    /// when they come.
    pub bytes: usize,
}

/// Bytes of a bucket of the kernel's hash tables, and of its part of a preallocated element.
pub const HASH_BUCKET: usize = 16;
/// See [`HASH_BUCKET`].
pub const HASH_ELEMENT: usize = 48;

/// The maps that such tables need, where `cpus` CPUs have counters of their own and programs may run on `possible`.
pub fn sized(sizes: &Sizes, cpus: u32, possible: u32) -> [Sized; 32] {
    let Sizes { connections, services, destinations, lists } = *sizes;
    let buckets = buckets(connections);
    let least_recent = |key: usize, value: usize| HASH_BUCKET + HASH_ELEMENT + key + value;
    [
        ("BUCKETS4", buckets, size_of::<Bucket>()),
        ("BUCKETS6", buckets, size_of::<Bucket>()),
        ("CONNS4", buckets.saturating_mul(WAYS), size_of::<Connection<u32>>()),
        ("CONNS6", buckets.saturating_mul(WAYS), size_of::<Connection<[u32; 4]>>()),
        ("VERIFIED", connections.max(LEAST_VERIFIED), least_recent(8, 8)),
        ("LOCALITY", (connections / 2).clamp(LOCALITIES.0, LOCALITIES.1), least_recent(24, 80)),
        ("ENGINES", connections.min(ENGINES), HASH_BUCKET),
        ("PORTS", connections.max(LEAST_PORTS), HASH_BUCKET),
        ("LISTS4", list_elements(lists), 0),
        ("LISTS6", list_elements(lists), 0),
        ("SERVICES", services, size_of::<Service>()),
        ("SERVICE_RATES", services, size_of::<Rates>()),
        ("SERVICE4", services, HASH_BUCKET),
        ("SERVICE6", services, HASH_BUCKET),
        ("FWMARKS", services, HASH_BUCKET),
        ("TABLES", services, size_of::<u64>()),
        ("DESTS", destinations, size_of::<Destination>()),
        ("ROSTERS", roster_places(destinations), size_of::<RosterPart>()),
        ("DEST_RATES", destinations, size_of::<Rates>()),
        ("COUNTERS", counter_places(cpus, destinations), size_of::<Counters>()),
        ("DRAFTS4", possible, size_of::<Connection<u32>>()),
        ("DRAFTS6", possible, size_of::<Connection<[u32; 4]>>()),
        ("REQUESTS", possible, 96),
        ("PARSED4", possible, 32),
        ("PARSED6", possible, 56),
        ("FIBS", possible, 64),
        ("ROUTES", possible, 64),
        ("ICMP_ERRORS4", possible, 72),
        ("ICMP_ERRORS6", possible, 120),
        ("MATCHES", possible, 8),
        ("LINES", possible, 24),
        ("SCRATCH", possible, 32776),
    ]
    .map(|(map, elements, bytes)| Sized { map, elements, bytes })
}

/// Bytes of the other maps: fragments take most of them.
const OTHERS: u64 = 12_800_000;

/// Bytes of all maps for such tables.
pub fn bytes(sizes: &Sizes, cpus: u32, possible: u32) -> u64 {
    let each = |map: Sized| u64::from(map.elements) * map.bytes as u64;
    let idle = u64::from(sizes.destinations) * size_of::<Idle>() as u64;
    OTHERS + idle + sized(sizes, cpus, possible).into_iter().map(each).sum::<u64>()
}

/// Connections that a table of so many buckets is for.
pub fn connections(buckets: u32) -> u32 {
    buckets.saturating_mul(FILL)
}

/// Buckets of a connection table.
pub fn buckets(connections: u32) -> u32 {
    connections.div_ceil(FILL).max(1)
}

/// Elements of a map of so many entries of lists: while a list is replaced, both the old one and the new one are there.
pub const fn list_elements(lists: u32) -> u32 {
    lists * 2
}

/// Places for parts of the rosters of so many destinations. A destination is on two at most: one that is in force, and the
/// one before or after it.
pub const fn roster_places(destinations: u32) -> u32 {
    destinations / 5 * 3 + 2
}

#[cfg(test)]
mod tests {
    use aya_obj::generated::bpf_map_type::*;
    use aya_obj::{Map, Object};
    use lvs_common::sched::roster::{self, SHORT};

    use super::*;
    use crate::objects::DIRECTOR;

    /// Bytes that the kernel takes when it makes a map.
    fn bytes_of(map: &Map, elements: u64, possible: u64) -> u64 {
        let round = |size: u32| size.next_multiple_of(8) as usize;
        let (key, value) = (round(map.key_size()), round(map.value_size()));
        let buckets = elements.next_power_of_two() * HASH_BUCKET as u64;
        let on_demand = map.map_flags() & 1 != 0;
        match map.map_type() {
            kind if kind == BPF_MAP_TYPE_PERCPU_ARRAY as u32 => elements * (value as u64 * possible + 8),
            kind if kind == BPF_MAP_TYPE_HASH as u32 && on_demand => buckets,
            kind if kind == BPF_MAP_TYPE_LRU_HASH as u32 => buckets + elements * (HASH_ELEMENT + key + value) as u64,
            kind if kind == BPF_MAP_TYPE_LPM_TRIE as u32 => 0,
            kind if kind == BPF_MAP_TYPE_RINGBUF as u32 => elements,
            // Arrays, and queues.
            kind => {
                assert_ne!(kind, BPF_MAP_TYPE_HASH as u32, "a preallocated hash table");
                elements * value as u64
            }
        }
    }

    #[test]
    fn the_size_that_is_announced_is_that_of_the_objects_maps() {
        if DIRECTOR.is_empty() {
            return;
        }
        let object = Object::parse(DIRECTOR).unwrap();
        for (cpus, possible) in [(1, 1), (2, 128)] {
            for sizes in [Sizes::SMALL, Sizes::large(), Sizes { connections: 1 << 21, ..Sizes::SMALL }] {
                let sized = sized(&sizes, cpus, possible);
                let elements = |name: &str, map: &Map| {
                    sized.iter().find(|sized| sized.map == name).map_or(map.max_entries(), |sized| sized.elements)
                };
                let maps = object.maps.iter();
                let sum: u64 = maps.map(|(name, map)| bytes_of(map, elements(name, map).into(), possible.into())).sum();
                let announced = bytes(&sizes, cpus, possible);
                assert!(announced.abs_diff(sum) < 1 << 20 | sum >> 6, "{sizes:?}: {sum} bytes, not {announced}");
            }
        }
        assert!(sized(&Sizes::SMALL, 1, 1).iter().all(|sized| object.maps.contains_key(sized.map)));
    }

    #[test]
    fn there_are_places_for_two_rosters_of_every_destination() {
        for servers in SHORT + 1..2000 {
            let parts = MOST_DESTINATIONS / servers * roster::parts(servers as usize) as u32;
            assert!(2 * parts < roster_places(MOST_DESTINATIONS), "{servers} servers");
        }
    }
}
