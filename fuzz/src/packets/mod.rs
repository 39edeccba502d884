//! Packets to the pipeline.

pub mod frames;
pub mod judge;
mod pair;
mod script;
mod sums;
pub mod world;

pub use pair::{check_every_step, packets, run};
