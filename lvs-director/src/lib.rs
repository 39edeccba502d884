//! The data plane as a library: the rules of a director, the [`Director`](director::Director) trait with its two
//! implementations (in memory, and in the maps of the eBPF data plane), and loading and attaching the eBPF programs.

pub mod dataplane;
pub mod director;
pub mod netlink;
pub mod objects;
pub mod rules;
