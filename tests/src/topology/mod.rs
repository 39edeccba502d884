//! Networks of namespaces: hosts, cables, programs and servers in them.
//!
//! Everything has names of its own process, so tests run side by side. All of it goes when its owner is dropped, when
//! the process is told to end, and at the next run at the latest.

mod cable;
mod client;
mod cluster;
mod control_group;
mod descriptors;
mod echo;
mod fleet;
mod http;
mod memory_group;
mod namespace;
mod nginx;
mod nics;
mod observer;
mod packet;
mod pair;
mod probe;
mod relay;
mod server;
mod session;
mod table;
mod transfers;
mod tunnel;

pub use cable::{Offloads, connect, set_offloads};
pub use client::{Client, fresh_port};
pub use cluster::{Arms, CLIENT, CLIENT6, Cluster, Layout, Site, TRUNK, VIP, VIP6};
pub use control_group::ControlGroup;
pub use fleet::{FLEET_VIP, Fleet};
pub use http::Reply;
pub use memory_group::MemoryGroup;
pub use namespace::{Namespace, is_root, lvs_compat_path, lvsadm_path};
pub use nginx::Nginx;
pub use nics::Driver;
pub use observer::{Observer, Place};
pub use packet::PacketSocket;
pub use pair::{Balancer, Failure, Member, Pair};
pub use probe::Fate;
pub use relay::{Addresses, FromClient, Handling, Relay, Side};
pub use server::Server;
pub use session::{Datagrams, Origin, Session};
pub use table::Counts;
pub use transfers::{Gap, Outcome, Transfers};
pub use tunnel::Tunnel;
