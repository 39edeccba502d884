//! What the integration tests, the demo and the benchmark stand on.

pub mod fixtures;
pub mod topology;
