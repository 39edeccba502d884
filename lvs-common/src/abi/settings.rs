//! Settings and clocks: `SETTINGS`, an array of one, and `WATCH`.

use super::MarkLists;

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

/// `net.ipv4.vs.*` as far as packets read them, by IPVS's names and meanings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs, reason = "the names are IPVS's sysctls")]
pub struct Sysctls {
    pub amemthresh: u32,
    pub am_droprate: u32,
    pub drop_entry: u32,
    pub drop_packet: u32,
    pub secure_tcp: u32,
    pub cache_bypass: u32,
    pub expire_nodest_conn: u32,
    pub sloppy_tcp: u32,
    pub sloppy_sctp: u32,
    pub expire_quiescent_template: u32,
    pub nat_icmp_send: u32,
    pub pmtu_disc: u32,
    pub backup_only: u32,
    pub conn_reuse_mode: u32,
    pub schedule_icmp: u32,
    pub ignore_tunneled: u32,
    pub run_estimation: u32,
    pub snat_reroute: u32,
    pub conntrack: u32,
    pub lblc_expiration: u32,
    pub lblcr_expiration: u32,
    /// Ours: a UDP connection whose real server was removed or has weight 0 is scheduled anew with its next packet.
    pub expire_udp_conn: u32,
    /// Of DPVS and its forerunner: the first port that FullNAT gives out.
    pub lport_min: u32,
    /// The last one.
    pub lport_max: u32,
    /// FullNAT tells the real server the client's address: 1 with the end of the handshake and the first data, 2 with the
    /// first packet too.
    pub toa: u32,
    /// Ours: both ends of an established TCP connection are told by a RST when it expires.
    pub conn_expire_tcp_rst: u32,
    /// FullNAT of UDP tells the real server the client's address with the first so many packets of a connection.
    pub uoa: u32,
    /// Ours: requests of unverified sources a second that a service which challenges lets in all the same.
    pub synproxy_rate: u32,
    /// Ours: requests a second that a verified source may make before it counts as an unverified one; 0 is any number.
    pub synproxy_source_rate: u32,
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
    /// Global timeouts.
    pub timeouts: Timeouts,
    /// Sysctls.
    pub sysctls: Sysctls,
}

/// What kinds of service exist, so that packets skip look-ups that cannot hit.
pub mod settings_flags {
    /// A service on TCP port 21.
    pub const FTP: u32 = 1;
    /// A service with port 0.
    pub const ANY_PORT: u32 = 2;
    /// A firewall-mark service or a mark rule.
    pub const FWMARK: u32 = 4;
    /// A service at all: without any, IPVS lets even live connections' packets pass.
    pub const ANY: u32 = 8;
    /// A classification rule about more destination addresses than the watch filter is told one by one.
    pub const ANY_ADDRESS: u32 = 16;
}

/// Bits of each half of the watch filter.
pub const WATCH_BITS: u32 = 65536;

/// The one entry of `WATCH`: two Bloom filters of one hash, over the virtual addresses and over all addresses that
/// replies can come from (real servers and virtual addresses). A packet with neither a destination in the one nor a source
/// in the other is not ours, and no table needs to be asked. Bits are set before a service is visible and cleared
/// only when no connection can need them.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Watch {
    /// Virtual addresses.
    pub virt: [u64; 1024],
    /// Addresses that replies come from.
    pub reply: [u64; 1024],
}

const _: () = assert!(size_of::<Timeouts>() == 136);
const _: () = assert!(size_of::<Sysctls>() == 120);
const _: () = assert!(size_of::<Settings>() == 344);

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

/// IPVS's defaults.
impl Default for Sysctls {
    fn default() -> Self {
        Sysctls {
            amemthresh: 1024,
            am_droprate: 10,
            drop_entry: 0,
            drop_packet: 0,
            secure_tcp: 0,
            cache_bypass: 0,
            expire_nodest_conn: 0,
            sloppy_tcp: 0,
            sloppy_sctp: 0,
            expire_quiescent_template: 0,
            nat_icmp_send: 0,
            pmtu_disc: 1,
            backup_only: 0,
            conn_reuse_mode: 1,
            schedule_icmp: 0,
            ignore_tunneled: 0,
            run_estimation: 1,
            snat_reroute: 1,
            conntrack: 0,
            lblc_expiration: 86400,
            lblcr_expiration: 86400,
            expire_udp_conn: 0,
            lport_min: 1024,
            lport_max: 65535,
            toa: 1,
            conn_expire_tcp_rst: 0,
            uoa: 0,
            synproxy_rate: 1000,
            synproxy_source_rate: 1000,
            pad: 0,
        }
    }
}
