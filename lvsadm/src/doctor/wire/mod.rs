//! Questions to other hosts on the wire: ARP and neighbour discovery, pings, and requests for connections, directly, through a tunnel, or to
//! a MAC address. Packets go by sockets of their own, past the data plane, and change nothing in it.

mod neighbours;
mod packets;
mod probes;
mod sockets;

pub use neighbours::{Question, who_has};
pub use packets::Tunnelled;
pub use probes::{Kind, Path, Probe, ask};
