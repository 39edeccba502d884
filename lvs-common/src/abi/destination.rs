//! Destinations (real servers of a service): `DESTS`, an array indexed by [`DestId`](super::DestId).

use super::{
    address::Address,
    ids::{DestId, ServiceId},
    mode::Mode,
    next_hop::NextHop,
    statistics::Counters,
    switch::Switch,
    tunnel::TunnelKind,
};
use crate::byte_order::Be16;
use crate::neighbour::Silence;

/// Flags of one copy of a destination's configuration.
pub mod dest_flags {
    /// The destination is configured; without it, its connections are dropped or moved.
    pub const AVAILABLE: u32 = 1;
    /// Its service has timeouts of its own.
    pub const OWN_TIMEOUTS: u32 = 2;
}

/// One copy of what packets read of a destination and what a command can change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct DestConfig {
    /// [`dest_flags`].
    pub flags: u32,
    /// Weight, 0..=2^31-1.
    pub weight: u32,
    /// The last weight that was not 0 (mh's tables are made of it).
    pub last_weight: u32,
    /// The next older destination of the service, 0 at the end.
    pub next: DestId,
    /// Upper and lower connection threshold (`-x`, `-y`); 0 is none.
    pub upper: u32,
    /// See `upper`.
    pub lower: u32,
    /// How packets reach it.
    pub forward: Mode,
    /// Kind of the tunnel.
    pub tunnel: TunnelKind,
    /// Flags of [`tunnel`](super::tunnel).
    pub tunnel_flags: u8,
    /// Always 0.
    pub pad: u8,
    /// Tunnel port.
    pub tunnel_port: Be16,
    /// Always 0.
    pub pad2: u16,
}

/// What the slot of a destination is used for.
pub mod dest_slot {
    /// Free.
    pub const FREE: u8 = 0;
    /// A destination, configured or (while connections refer to it) deleted.
    pub const USED: u8 = 1;
}

/// A destination. The first 64 bytes are all a scheduler that scans the list reads when copy 0 is in force.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub struct Destination {
    /// Of the layout for tests only.
    #[cfg(feature = "test-layout")]
    pub sample: [u64; 2],
    /// Which of `config` is in force.
    pub switch: Switch,
    /// Connections: active in the upper, inactive in the lower half, so that one atomic addition moves both.
    pub connections: u64,
    /// Templates that point here (`PersistConn`).
    #[cfg(not(feature = "test-layout"))]
    pub persistent: u32,
    /// 1 while the connection thresholds keep new connections away.
    pub overloaded: u32,
    /// As above; the layout for tests has it here.
    #[cfg(feature = "test-layout")]
    pub persistent: u32,
    /// The two copies.
    pub config: [DestConfig; 2],
    /// Address of the real server.
    pub address: Address,
    /// Source address of the outer header of a tunnel (an address of the director, of the real server's family), as
    /// it was when the destination was added; the route's own is preferred where the kernel tells it.
    pub source: Address,
    /// The service it belongs (or belonged) to.
    pub service: ServiceId,
    /// Port of the real server.
    pub port: Be16,
    /// `AF_INET` or `AF_INET6`: the real server's family.
    pub family: u8,
    /// [`dest_slot`].
    pub slot: u8,
    /// Serial of that service: a service made anew in the same slot is another one.
    pub service_serial: u64,
    /// 1 if the address was none of the host's own when the destination was added or edited: without a route it is unreachable.
    pub remote: u32,
    /// Always 0.
    pub pad: u32,
    /// Next hop toward the real server, resolved by packets.
    pub hop: NextHop,
    /// What its slot had counted when it was given to this destination: counters never go back.
    pub origin: Counters,
    /// What it had counted when its counters were zeroed last: listings start from there.
    pub base: Counters,
    /// While the neighbour toward the real server is not known: since when.
    pub silence: Silence,
}

const _: () = assert!(size_of::<DestConfig>() == 32);
const _: () = assert!(cfg!(feature = "test-layout") || size_of::<Destination>() == 256);

impl Destination {
    /// Active and inactive connections.
    #[inline(always)]
    pub const fn split(connections: u64) -> (u32, u32) {
        ((connections >> 32) as u32, connections as u32)
    }
}
