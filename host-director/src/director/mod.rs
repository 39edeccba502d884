//! A director in memory: rules and edits, packets and what becomes of them, time, and what must hold in its tables at all times.

pub mod check;
pub mod edit;
mod host;
pub mod packet;
pub mod rules;
pub mod sizes;

pub use crate::kernel::params::set_buckets;
pub use host::Director;
