//! Destinations (real servers of a service): `DESTS`, an array indexed by [`DestId`](super::DestId).

use super::tunnel::TunnelKind;
use super::{Address, Counters, DestId, NextHop, ServiceId, Switch};

/// How packets reach a real server, by the kernel's numbers (`IP_VS_CONN_F_FWD_MASK`); `FullNat` is ours (and LVS's).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the variants are the modes' own names")]
pub enum Forward {
    #[default]
    Masq = 0,
    Local = 1,
    Tunnel = 2,
    Route = 3,
    /// Forwarded to the packet's own destination (`cache_bypass`).
    Bypass = 4,
    FullNat = 5,
}

impl Forward {
    /// [`Forward::Masq`] as its number, for patterns.
    pub const MASQ: u8 = Forward::Masq as u8;
    /// [`Forward::Local`], likewise.
    pub const LOCAL: u8 = Forward::Local as u8;
    /// [`Forward::Bypass`], likewise.
    pub const BYPASS: u8 = Forward::Bypass as u8;
    /// [`Forward::Tunnel`], likewise.
    pub const TUNNEL: u8 = Forward::Tunnel as u8;
    /// [`Forward::Route`], likewise.
    pub const ROUTE: u8 = Forward::Route as u8;
    /// [`Forward::FullNat`], likewise.
    pub const FULLNAT: u8 = Forward::FullNat as u8;

    /// The mode of a number, `None` for one that is no mode.
    #[inline(always)]
    pub const fn from_u8(n: u8) -> Option<Self> {
        Some(match n {
            0 => Forward::Masq,
            1 => Forward::Local,
            2 => Forward::Tunnel,
            3 => Forward::Route,
            4 => Forward::Bypass,
            5 => Forward::FullNat,
            _ => return None,
        })
    }
}

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
    /// A [`Forward`] as its number.
    pub forward: u8,
    /// Kind of the tunnel.
    pub tunnel: TunnelKind,
    /// Flags of [`tunnel`](super::tunnel).
    pub tunnel_flags: u8,
    /// Always 0.
    pub pad: u8,
    /// Tunnel port, network order.
    pub tunnel_port: u16,
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
    /// Which of `config` is in force.
    pub switch: Switch,
    /// Connections: active in the upper, inactive in the lower half, so that one atomic addition moves both.
    pub connections: u64,
    /// Templates that point here (`PersistConn`).
    pub persistent: u32,
    /// 1 while the connection thresholds keep new connections away.
    pub overloaded: u32,
    /// The two copies.
    pub config: [DestConfig; 2],
    /// Address of the real server.
    pub address: Address,
    /// Source address of the outer header of a tunnel (an address of the director, of the real server's family), as
    /// it was when the destination was added; the route's own is preferred where the kernel tells it.
    pub source: Address,
    /// The service it belongs (or belonged) to.
    pub service: ServiceId,
    /// Port of the real server, network order.
    pub port: u16,
    /// `AF_INET` or `AF_INET6`: the real server's family.
    pub family: u8,
    /// [`dest_slot`].
    pub slot: u8,
    /// Serial of that service: a service made anew in the same slot is another one.
    pub service_serial: u64,
    /// Always 0.
    pub pad: u64,
    /// Next hop toward the real server, resolved by packets.
    pub hop: NextHop,
    /// What its slot had counted when it was given to this destination: counters never go back.
    pub origin: Counters,
    /// What it had counted when its counters were zeroed last: listings start from there.
    pub base: Counters,
}

const _: () = assert!(size_of::<DestConfig>() == 32);
const _: () = assert!(size_of::<Destination>() == 256);

impl Destination {
    /// Active and inactive connections.
    #[inline(always)]
    pub const fn split(connections: u64) -> (u32, u32) {
        ((connections >> 32) as u32, connections as u32)
    }
}
