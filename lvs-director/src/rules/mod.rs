//! The model of what a director is told and what it tells: virtual services, destinations, connections, counters.
//!
//! Everything here is plain data and pure functions; addresses are [`std::net::IpAddr`] and ports host order.

mod access;
mod connection;
mod daemon;
mod destination;
mod device;
mod kernel;
mod lines;
mod local;
mod log_level;
mod mark;
mod rule;
mod scheduler;
mod service;
mod statistics;
mod sysctls;
mod timeouts;

pub use access::{
    AccessChange, AccessEntry, AccessKind, AccessList, AccessRule, ClientError, access_file, client, duration, seconds,
};
pub use connection::Connection;
pub use daemon::{Daemon, Role};
pub use destination::{Destination, DestinationKey, Tunnel};
pub use device::{AttachMode, Attached};
pub use kernel::{hash_order, header};
pub use lines::words;
pub use local::LocalEntry;
pub use log_level::LogLevel;
pub use mark::{EVERY_PORT, Mark, MarkChange, Prefix, Traffic, TrafficError, mark, ports};
pub use rule::{Change, Rule, RuleKey, difference};
pub use scheduler::{
    flag_by_name, flag_names, flags_of, scheduler_by_name, scheduler_by_number, scheduler_name, traits,
};
pub use service::{Family, Netmask, PersistenceEngine, Protocol, Service, ServiceKey};
pub use statistics::{DestinationEntry, Rates, ServiceEntry, Statistics};
pub use sysctls::{
    AUTOMATIC, SYSCTL_PREFIX, SYSCTLS, Sysctl, SysctlError, SysctlName, arguments, consistent, explained, sysctl,
};
pub use timeouts::Timeouts;
