//! Connection synchronisation: `SYNC` (an array of one), `ANNOUNCEMENTS` (a ring buffer) and `INCOMING`.

use super::address::Address;
use super::connection::EntryKind;
use super::ids::{DestId, EntryRef};
use super::mode::Mode;
use crate::byte_order::Be16;

/// What is done after a client's packet is counted ([`Settings::afterwards`](super::Settings)).
pub mod afterwards {
    /// What a reset of its connection would need to know is recorded (`conn_expire_tcp_rst`).
    pub const RESETS: u32 = 1;
    /// The backups may have to be told of its connection: a master's daemon runs.
    pub const ANNOUNCES: u32 = 2;
}

/// Which daemons of connection synchronisation run ([`Settings::daemons`](super::Settings)), as IPVS numbers them.
pub mod daemons {
    /// The one that tells others of connections.
    pub const MASTER: u32 = 1;
    /// The one that is told by others.
    pub const BACKUP: u32 = 2;
}

/// What a daemon was started with. All 0 if none was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Daemon {
    /// Number of its process.
    pub process: u32,
    /// Family of the group, `AF_INET` or `AF_INET6`.
    pub family: u32,
    /// When the process was started, as `/proc/PID/stat` has it: another process of the same number has another.
    pub started: u64,
    /// Name of the device.
    pub interface: [u8; 16],
    /// The multicast group, or the address of another director.
    pub group: Address,
    /// Which directors belong together.
    pub syncid: u32,
    /// Longest message, bytes.
    pub maxlen: u32,
    /// UDP port of the group, host order.
    pub port: u32,
    /// TTL of messages.
    pub ttl: u32,
    /// 1 if messages are sealed.
    pub sealed: u32,
    /// How many peers there are beside the first one, which is `group`.
    pub further_peers: u32,
    /// Those peers.
    pub further: [Address; FURTHER_PEERS],
}

/// Most peers beside the first one.
pub const FURTHER_PEERS: usize = 15;

/// Declares the counters: a row each, from which come the structure, its listing and the metrics.
macro_rules! counters {
    ($($name:ident $meaning:literal)+) => {
        /// What the daemons have done since the data plane was loaded.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[repr(C)]
        pub struct SyncCounters {
            $(#[doc = $meaning] pub $name: u64,)+
        }

        impl SyncCounters {
            /// Name, name as a metric, meaning and value of each.
            pub fn rows(&self) -> impl Iterator<Item = (&'static str, &'static str, &'static str, u64)> + use<> {
                [$((stringify!($name), concat!("lvs_sync_", stringify!($name), "_total"), $meaning, self.$name)),+].into_iter()
            }
        }
    };
}

counters! {
    sent_messages "Messages sent."
    sent_connections "Connections and templates in messages sent."
    send_failures "Messages that could not be sent."
    unsayable "Connections and templates that no message of this version can hold."
    received_messages "Messages received."
    foreign "Messages received of another syncid, or from another host than the peers."
    unsealed "Messages received that are not sealed with the key, or were received before."
    malformed "Messages received that are cut short, too long or make no sense: nothing of them was believed."
    entered "Connections and templates entered from messages."
    updated "Connections and templates that were there and were told of again."
    ignored "Connections and templates in messages that were of no use: another connection has taken their place, or the local rules cannot serve them."
    no_room "Connections and templates that found no room in the table."
}

/// The one entry of `SYNC`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Sync {
    /// The daemons: master and backup.
    pub daemons: [Daemon; 2],
    /// Connections and templates that packets had no room to announce: the data plane's.
    pub lost: u64,
    /// Connections and templates that wait for their real server to be configured: the backup's.
    pub waiting: u64,
    /// The daemons' counters.
    pub counters: SyncCounters,
}

/// A connection or template that one director tells another of. Packets leave it in the ring buffer `ANNOUNCEMENTS` for the
/// backups. Fields are the [`Connection`](super::Connection)'s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are the connection's")]
pub struct Announcement {
    pub client: Address,
    pub virt: Address,
    pub real: Address,
    pub client_port: Be16,
    pub virt_port: Be16,
    pub real_port: Be16,
    pub protocol: u8,
    pub kind: EntryKind,
    pub forward: Mode,
    /// Family of the client, `AF_INET` or `AF_INET6`.
    pub family: u8,
    pub local_port: Be16,
    pub dest: DestId,
    /// [`conn_flags`](super::conn_flags) and the state's number.
    pub state: u32,
    pub timeout: u32,
    pub fwmark: u32,
    /// Index of its entry in the table of the director that has this announcement.
    pub entry: u32,
    pub engine: u64,
    pub local_id: u32,
    pub first: u32,
    pub toa_state: u32,
    /// Always 0.
    pub pad: u32,
}

/// Elements of `INCOMING`.
pub const INCOMING: u32 = 256;

/// What became of an element of `INCOMING`.
pub mod entered {
    /// It was put into the table.
    pub const NEW: u32 = 1;
    /// Such a connection was there, and was changed.
    pub const UPDATED: u32 = 2;
    /// Another connection has taken its place.
    pub const IGNORED: u32 = 3;
    /// There is no room in the table.
    pub const NO_ROOM: u32 = 4;
}

/// A connection or template that `lvsadm` has the program `lvs_import` put into the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Incoming {
    /// What is put in; the program fills in the entry.
    pub announcement: Announcement,
    /// Packets from the client, as [`Connection::in_packets`](super::Connection::in_packets).
    pub in_packets: u32,
    /// The template's entry, as [`Connection::control`](super::Connection::control).
    pub control: EntryRef,
    /// Jiffies since its last packet.
    pub age: u32,
    /// [`entered`], the program's.
    pub result: u32,
}

const _: () = assert!(size_of::<Daemon>() == 72 + 16 * FURTHER_PEERS);
const _: () = assert!(size_of::<Announcement>() == 104);
const _: () = assert!(size_of::<Incoming>() == 120);
