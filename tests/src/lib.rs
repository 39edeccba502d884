//! What the integration tests and the demo stand on.

pub mod topology;
