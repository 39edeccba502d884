//! Counters and rates: `COUNTERS` (per destination and CPU), `DEST_RATES`, `SERVICE_RATES`.

/// What IPVS counts. `COUNTERS` holds one for each CPU and destination at `cpu * destinations + id`: a CPU writes only
/// its own, so no atomics are needed; services and the total are sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counters {
    /// Connections scheduled.
    pub conns: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets from the real server that passed the director.
    pub out_packets: u64,
    /// Bytes of IP packets from clients.
    pub in_bytes: u64,
    /// Bytes of IP packets from the real server.
    pub out_bytes: u64,
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
