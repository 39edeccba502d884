//! The checks: facts in, findings out.

mod devices;
mod host;
mod network;
mod rules;
mod servers;
mod table;
mod tables;

pub use table::examine;
