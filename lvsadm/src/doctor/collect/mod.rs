//! Gathers facts: what the host says, what the data plane says, and what other hosts answer.

mod devices;
mod gather;
mod host;
mod plane;
mod servers;

pub use gather::collect;
