//! What ipvsadm prints, byte for byte.

mod access;
mod connections;
pub mod json;
mod label;
mod listing;
mod locals;
mod metrics;
mod numbers;
mod rules;
mod save;
mod sort;

pub use access::{AccessLists, access};
pub use connections::Connections;
pub use label::Labels;
pub use listing::Listing;
pub use locals::locals;
pub use metrics::{Format, Metrics, REFUSED, evictions, metrics};
pub use rules::{changes, full};
pub use save::save;
pub use sort::sorted;

use lvs_director::rules::{Daemon, Mark, Timeouts};

/// `mark list`
pub fn marks(marks: &[Mark]) -> String {
    marks.iter().map(|mark| format!("{mark}\n")).collect()
}

/// `-L --daemon`
pub fn daemons(daemons: &[Daemon]) -> String {
    daemons.iter().map(|daemon| format!("{daemon}\n")).collect()
}

/// `-L --timeout`
pub fn timeouts(timeouts: &Timeouts) -> String {
    format!("Timeout (tcp tcpfin udp): {} {} {}\n", timeouts.tcp, timeouts.tcp_fin, timeouts.udp)
}
