//! Virtual services: `SERVICES` (an array, indexed by [`ServiceId`](super::ServiceId)) and the maps that find one.

use super::{address::Address, ids::DestId, own::OwnOptions, statistics::Counters, switch::Switch};
use crate::byte_order::Be16;

/// Key of `SERVICE4`: an IPv4 service by address, port and protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct ServiceKey<A> {
    /// Virtual address.
    pub address: A,
    /// Virtual port; 0 is the service for every port.
    pub port: Be16,
    /// IP protocol number.
    pub protocol: u8,
    /// Always 0.
    pub pad: u8,
}

/// Key of `FWMARKS`: a firewall-mark service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FwmarkKey {
    /// The mark, never 0.
    #[cfg(not(feature = "test-layout"))]
    pub mark: u32,
    /// `AF_INET` or `AF_INET6`.
    pub family: u32,
    /// As above; the layout for tests has it here.
    #[cfg(feature = "test-layout")]
    pub mark: u32,
}

const _: () = assert!(size_of::<ServiceKey<u32>>() == 8);
const _: () = assert!(size_of::<ServiceKey<[u32; 4]>>() == 20);
const _: () = assert!(size_of::<FwmarkKey>() == 8);

/// Flags of a service, the kernel's values where it has them (`IP_VS_SVC_F_*`).
pub mod service_flags {
    /// Persistent (`-p`).
    pub const PERSISTENT: u32 = 0x1;
    /// One-packet scheduling (`-o`).
    pub const ONE_PACKET: u32 = 0x4;
    /// First scheduler flag: `flag-1`, `sh-fallback`, `mh-fallback`.
    pub const SCHED1: u32 = 0x8;
    /// Second scheduler flag: `flag-2`, `sh-port`, `mh-port`.
    pub const SCHED2: u32 = 0x10;
    /// Third scheduler flag: `flag-3`.
    pub const SCHED3: u32 = 0x20;
    /// Ours: the service exists in this copy of the configuration.
    pub const PRESENT: u32 = 0x8000_0000;
}

/// The schedulers, by number as the maps hold them; [`sched::SCHEDULERS`](crate::sched::SCHEDULERS) says what each is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the variants are the schedulers' own names")]
pub enum Scheduler {
    /// `none`: the service schedules nothing.
    #[default]
    None = 0,
    Rr,
    Wrr,
    Lc,
    Wlc,
    Lblc,
    Lblcr,
    Dh,
    Sh,
    Sed,
    Nq,
    Fo,
    Ovf,
    Mh,
    Twos,
}

/// One copy of what packets read of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ServiceConfig {
    /// [`service_flags`].
    pub flags: u32,
    /// A [`Scheduler`] as its number.
    pub scheduler: u8,
    /// Persistence engine: 0 none, 1 `sip`.
    pub pe: u8,
    /// Always 0.
    pub pad: u16,
    /// Persistence timeout, seconds.
    #[cfg(not(feature = "test-layout"))]
    pub persist_timeout: u32,
    /// Persistence granularity: IPv4 mask in network order, or IPv6 prefix length.
    pub netmask: u32,
    /// As above; the layout for tests has it here.
    #[cfg(feature = "test-layout")]
    pub persist_timeout: u32,
    /// The newest destination; the others follow by [`DestConfig::next`](super::DestConfig).
    pub head: DestId,
    /// How many destinations are on the list.
    pub dest_count: u32,
    /// Greatest weight on the list (wrr).
    pub weight_max: u32,
    /// Greatest common divisor of the weights that are not 0 (wrr), 1 if there is none.
    pub weight_gcd: u32,
    /// Inner map of `TABLES` with this configuration's bucket table (dh, sh, mh); 0 is none.
    pub table: u32,
    /// Inner map of `TABLES` with this service's local addresses for FullNAT, after
    /// [`POOL_HEAD`](super::POOL_HEAD); 0 is the default pool, which is that of service 0.
    pub locals: u32,
    /// First part of its roster in `ROSTERS`, for a scheduler that looks at every destination of a long list; 0 is none.
    pub roster: u32,
    /// Number of its list of clients that may not come in, 0 if it has no entries; of service 0, that for all services.
    pub blocked: u32,
    /// Number of its list of the only clients that may come in, 0 if it has no entries; of service 0, that for all services.
    pub allowed: u32,
    /// Always 0.
    pub pad2: u32,
    /// The options that IPVS's services lack.
    pub own: OwnOptions,
    /// The scheduler's word of state, changed by packets (rr, wrr): see `sched`.
    pub sched_state: u64,
}

/// A virtual service.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Service {
    /// Of the layout for tests only.
    #[cfg(feature = "test-layout")]
    pub sample: u64,
    /// Which of `config` is in force.
    pub switch: Switch,
    /// The two copies.
    pub config: [ServiceConfig; 2],
    /// Virtual address; all 0 for a firewall mark.
    #[cfg(not(feature = "test-layout"))]
    pub address: Address,
    /// Virtual port.
    pub port: Be16,
    /// IP protocol number, 0 for a firewall mark.
    pub protocol: u8,
    /// `AF_INET` or `AF_INET6`.
    pub family: u8,
    /// Firewall mark, 0 for an address service.
    pub fwmark: u32,
    /// As above; the layout for tests has it here.
    #[cfg(feature = "test-layout")]
    pub address: Address,
    /// Whose turn of the local addresses it is.
    pub local_turn: u32,
    /// Requests of unverified sources that were let in: see [`challenge::spend`](crate::challenge::spend).
    pub requests: u32,
    /// By which device its address was last found to be the host's own, and until when that holds: see
    /// [`admission::known_here`](crate::admission::known_here).
    pub here: u64,
    /// Order of creation: `--nosort` lists by it.
    pub serial: u64,
    /// What destinations that no longer exist had counted for this service.
    pub folded: Counters,
    /// What the service had counted when its counters were zeroed last; of service 0, what everything had.
    pub base: Counters,
}

const _: () = assert!(size_of::<ServiceConfig>() == 64 + size_of::<OwnOptions>());
const _: () = assert!(cfg!(feature = "test-layout") || size_of::<Service>() == 136 + 2 * size_of::<ServiceConfig>());
