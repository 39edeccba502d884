//! Settings and clocks: `SETTINGS`, an array of one, and `WATCH`.

use super::ids::{DestId, ServiceId};
use super::mark::MarkLists;
use super::sync::{afterwards, daemons};
use super::sysctls::Sysctls;
use crate::icmp_limit::IcmpLimits;

/// Timeouts by state in seconds, as IPVS has them; indices are the states' numbers (`state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Timeouts {
    /// TCP states.
    pub tcp: [u32; 16],
    /// SCTP states.
    pub sctp: [u32; 16],
    /// UDP.
    pub udp: u32,
    /// Always 0.
    pub pad: u32,
}

/// The one entry of `SETTINGS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// The configuration's epoch: see [`Switch`](super::Switch).
    pub epoch: u64,
    /// Jiffies at the last sweep.
    pub now: u64,
    /// Of the layout for tests only.
    #[cfg(feature = "test-layout")]
    pub sample: u64,
    /// `CLOCK_MONOTONIC` at the last sweep, ns.
    pub now_ns: u64,
    /// [`settings_flags`].
    pub flags: u32,
    /// Destination slots from here on were never used.
    pub dests_used: u32,
    /// Service slots from here on were never used.
    pub services_used: u32,
    /// 1 while a command is staging changes: who finds it so after taking the lock cleans up after a dead one.
    pub staged: u32,
    /// How many of the used destination slots hold none that is configured; only `lvsadm` reads it.
    pub idle_dests: u32,
    /// Whether connections of IPv4 (1) or IPv6 (2) wait to be reset; the data plane's.
    pub resets: u32,
    /// Serial of the newest service; only `lvsadm` reads it.
    pub serial: u64,
    /// The classification rules.
    pub marks: MarkLists,
    /// Of how many new connections one is dropped (`drop_packet` at work), 0 for none; the sweep's.
    pub drop_rate: u32,
    /// Connections and templates of IPv4 and of IPv6 at the last second; the sweep's.
    pub held: [u32; 2],
    /// Connections and templates that `drop_entry` has taken out; the sweep's.
    pub taken_out: u32,
    /// With `expire_nodest_conn`: the epoch that last removed a destination. Once it is in force, the sweep takes the connections
    /// and templates of removed destinations out, and sets it to 0 when it has seen all of the table.
    pub removal: u64,
    /// Number of the newest list of clients; only `lvsadm` reads it.
    pub lists: u32,
    /// [`afterwards`](super::afterwards); follows from the settings and the daemons, so that packets ask one word.
    pub afterwards: u32,
    /// Until when any of the path MTUs in `PATHS` holds, jiffies; the data plane's.
    pub paths_until: u64,
    /// How many ICMP errors the host sends.
    pub icmp: IcmpLimits,
    /// Global timeouts.
    pub timeouts: Timeouts,
    /// Which [`daemons`](super::daemons) of connection synchronisation run.
    pub daemons: u32,
    /// Which [`extras`](super::extras) were loaded beside the programs that every data plane has.
    pub extras: u32,
    /// 1: the director's virtual addresses are not advertised, so that other directors of its fleet get the packets; only `lvsadm` reads it.
    pub drained: u32,
    /// Always 0.
    pub pad: u32,
    /// Sysctls.
    pub sysctls: Sysctls,
}

impl Settings {
    /// Has the words follow that packets ask in place of several others.
    pub fn derive(&mut self) {
        let bit = |holds: bool, bit: u32| if holds { bit } else { 0 };
        let is_master = self.daemons & daemons::MASTER != 0;
        self.afterwards =
            bit(self.sysctls.conn_expire_tcp_rst != 0, afterwards::RESETS) | bit(is_master, afterwards::ANNOUNCES);
        let is_idle = self.daemons & daemons::BACKUP != 0 && self.sysctls.backup_only != 0;
        let serves = self.flags & settings_flags::SERVICES != 0 && !is_idle;
        self.flags = self.flags & !settings_flags::ANY | bit(serves, settings_flags::ANY);
    }

    /// Every slot that a destination was ever in.
    pub fn dest_slots(&self) -> impl DoubleEndedIterator<Item = DestId> + use<> {
        (1..self.dests_used).map(DestId::new)
    }

    /// Every slot that a service was ever in.
    pub fn service_slots(&self) -> impl Iterator<Item = ServiceId> + use<> {
        (1..self.services_used).map(ServiceId::new)
    }
}

/// Programs that are loaded when something needs them first.
pub mod extras {
    /// Those of IPv6. Without them no packet of IPv6 is the data plane's.
    pub const IPV6: u32 = 1;
    /// XDP's programs for frames with a VLAN's tag.
    pub const VLANS: u32 = 2;
}

/// What kinds of service exist, so that packets skip look-ups that cannot hit.
pub mod settings_flags {
    /// A service on TCP port 21.
    pub const FTP: u32 = 1;
    /// A service with port 0.
    pub const ANY_PORT: u32 = 2;
    /// A firewall-mark service or a mark rule.
    pub const FWMARK: u32 = 4;
    /// Packets are served: there is a service at all, without which IPVS lets even live connections' packets pass, and no backup that
    /// is to serve nothing (`backup_only`).
    pub const ANY: u32 = 8;
    /// A classification rule about more destination addresses than the watch filter is told one by one.
    pub const ANY_ADDRESS: u32 = 16;
    /// There is a service.
    pub const SERVICES: u32 = 32;
    /// Kinds of services whose packets go to ports that they do not name.
    pub const SEVERAL_PORTS: u32 = FWMARK | FTP | ANY_PORT;
}

/// Bits of each part of the watch filter.
pub const WATCH_BITS: u32 = 65536;

/// The one entry of `WATCH`: Bloom filters of one hash, over the virtual addresses, over all addresses that replies can
/// come from (real servers and virtual addresses), and over the services. A packet with neither a destination in the first
/// nor a source in the second is not ours, and no table needs to be asked. Bits are set before a service is visible and
/// cleared only when no connection can need them.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Watch {
    /// As below; the layout for tests has it here.
    #[cfg(feature = "test-layout")]
    pub served: [u64; 1024],
    /// Virtual addresses.
    pub virt: [u64; 1024],
    /// Addresses that replies come from.
    pub reply: [u64; 1024],
    /// Addresses, ports and protocols of services: a packet of no connection to any other is for none, where no service is for
    /// several ports ([`settings_flags::SEVERAL_PORTS`]).
    #[cfg(not(feature = "test-layout"))]
    pub served: [u64; 1024],
}

const _: () = assert!(size_of::<Timeouts>() == 136);
const _: () = assert!(cfg!(feature = "test-layout") || size_of::<Settings>() == 288 + size_of::<Sysctls>());

/// IPVS's timeouts.
impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            // none established syn-sent syn-recv fin-wait time-wait close close-wait last-ack listen synack
            tcp: [2, 900, 120, 60, 120, 120, 10, 60, 30, 120, 120, 2, 2, 2, 2, 2],
            // none init1 init c-sent c-replied c-wait cookie c-echoed established s-sent s-received s-ack-sent rejected closed
            sctp: [2, 4, 61, 61, 61, 61, 61, 61, 900, 61, 61, 61, 4, 61, 2, 2],
            udp: 300,
            pad: 0,
        }
    }
}
