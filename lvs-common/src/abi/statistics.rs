//! Counters and rates: `COUNTERS` (per destination and CPU), `DEST_RATES`, `SERVICE_RATES`.

use super::ids::DestId;

/// What IPVS counts. `COUNTERS` holds a row for each CPU, with one for each destination: a CPU writes only its own, so no atomics are
/// needed; services and the total are sums. See [`own_counters`] and [`common_counters`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counters {
    /// Connections scheduled.
    pub conns: u64,
    /// Packets from clients.
    #[cfg(not(feature = "test-layout"))]
    pub in_packets: u64,
    /// Packets from the real server that passed the director.
    pub out_packets: u64,
    /// As above; the layout for tests has it here.
    #[cfg(feature = "test-layout")]
    pub in_packets: u64,
    /// Bytes of IP packets from clients.
    pub in_bytes: u64,
    /// Bytes of IP packets from the real server.
    pub out_bytes: u64,
}

/// The place in `COUNTERS` of a CPU's own counters of a destination, of so many. A CPU that was added to the machine after the map was
/// made has none: the place is beyond the map's end.
#[must_use]
pub const fn own_counters(cpu: u32, destinations: u32, id: DestId) -> u32 {
    (cpu + 1).wrapping_mul(destinations).wrapping_add(id.get())
}

/// The place in `COUNTERS` of what all CPUs without counters of their own count together, with atomics.
#[must_use]
pub const fn common_counters(id: DestId) -> u32 {
    id.get()
}

/// Elements of `COUNTERS`: the common row, and a row for each CPU.
#[must_use]
pub const fn counter_places(cpus: u32, destinations: u32) -> u32 {
    (cpus + 1) * destinations
}

impl Counters {
    /// Field by field, wrapping.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Counters {
            conns: self.conns.wrapping_add(other.conns),
            in_packets: self.in_packets.wrapping_add(other.in_packets),
            out_packets: self.out_packets.wrapping_add(other.out_packets),
            in_bytes: self.in_bytes.wrapping_add(other.in_bytes),
            out_bytes: self.out_bytes.wrapping_add(other.out_bytes),
        }
    }

    /// Field by field, wrapping: what was counted since `earlier`.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Counters {
            conns: self.conns.wrapping_sub(earlier.conns),
            in_packets: self.in_packets.wrapping_sub(earlier.in_packets),
            out_packets: self.out_packets.wrapping_sub(earlier.out_packets),
            in_bytes: self.in_bytes.wrapping_sub(earlier.in_bytes),
            out_bytes: self.out_bytes.wrapping_sub(earlier.out_bytes),
        }
    }
}

/// State of the estimator for one destination, one service, or the total (`estimator`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Rates {
    /// The counters at the last tick (destinations), or summed up for the tick to come (services, total).
    pub last: Counters,
    /// Averages in the estimator's fixed point: conns, in packets, out packets, in bytes, out bytes.
    pub average: [u64; 5],
}

const _: () = assert!(size_of::<Counters>() == 40);
const _: () = assert!(size_of::<Rates>() == 80);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_cpu_has_counters_of_its_own_and_later_ones_are_beyond_the_end() {
        let (cpus, destinations) = (3, 5);
        let ids = || (0..destinations).map(DestId::new);
        let own = (0..cpus).flat_map(|cpu| ids().map(move |id| own_counters(cpu, destinations, id)));
        let places: BTreeSet<u32> = own.chain(ids().map(common_counters)).collect();
        assert!(places.into_iter().eq(0..counter_places(cpus, destinations)));
        for cpu in cpus..8192 {
            assert!(own_counters(cpu, destinations, DestId::new(0)) >= counter_places(cpus, destinations));
        }
        // As many CPUs as the kernel can have, and as many destinations as there can be.
        assert_eq!(own_counters(8191, 1 << 17, DestId::new(5)), (8192 << 17) + 5);
    }
}
