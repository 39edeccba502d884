//! How much the tables hold, and how many elements their maps have for that.

use lvs_common::abi::WAYS;

/// Connections a bucket holds on average when the table is full: beyond, single buckets overflow.
const FILL: u32 = WAYS * 3 / 4;

/// How much the tables hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Connections and templates of each family.
    pub connections: u32,
    /// Virtual services.
    pub services: u32,
    /// Destinations of all services together.
    pub destinations: u32,
}

impl Sizes {
    /// What suits this host: connections take a 128th of its memory at most.
    pub fn of_host() -> Self {
        // SAFETY: plain queries.
        let memory = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) as u64 * libc::sysconf(libc::_SC_PAGESIZE) as u64 };
        let connections = (memory / 128 / 430).clamp(1 << 14, 1 << 20) as u32;
        Sizes { connections, services: 65_536, destinations: 131_072 }
    }
}

/// Buckets of a connection table.
pub fn buckets(connections: u32) -> u32 {
    connections.div_ceil(FILL).max(1)
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
        const DESTINATIONS: u32 = 131_072;
        for servers in SHORT + 1..2000 {
            let parts = DESTINATIONS / servers * roster::parts(servers as usize) as u32;
            assert!(2 * parts < roster_places(DESTINATIONS), "{servers} servers");
        }
    }
}
