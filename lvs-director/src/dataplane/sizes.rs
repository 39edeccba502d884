//! How much the tables hold, and how many elements their maps have for that.

use std::path::Path;

use lvs_common::abi::WAYS;

use crate::director::Room;

/// Connections a bucket holds on average when the table is full: beyond, single buckets overflow.
const FILL: u32 = WAYS * 3 / 4;

/// Services and destinations that there can be at most.
pub const MOST_SERVICES: u32 = 1 << 16;
/// See [`MOST_SERVICES`].
pub const MOST_DESTINATIONS: u32 = 1 << 17;

/// Addresses that lblc and lblcr remember at most, and at least.
const LOCALITIES: (u32, u32) = (1 << 13, 1 << 16);

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
    pub const SMALL: Sizes = Sizes { connections: 1 << 14, services: 1 << 12, destinations: 1 << 14, lists: LISTS };

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

/// Addresses that lblc and lblcr remember beside so many connections.
pub fn localities(connections: u32) -> u32 {
    connections.clamp(LOCALITIES.0, LOCALITIES.1)
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
    use lvs_common::sched::roster::{self, SHORT};

    use super::*;

    #[test]
    fn there_are_places_for_two_rosters_of_every_destination() {
        for servers in SHORT + 1..2000 {
            let parts = MOST_DESTINATIONS / servers * roster::parts(servers as usize) as u32;
            assert!(2 * parts < roster_places(MOST_DESTINATIONS), "{servers} servers");
        }
    }
}
