//! ICMP errors about balanced connections: translated and sent to the party they concern. TC only.

pub mod families;
pub mod path;
pub mod read;
pub mod serve;
pub mod translate;
pub mod tunnel;
pub mod unknown;
