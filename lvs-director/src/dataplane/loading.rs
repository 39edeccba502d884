//! How the data plane is loaded.

use super::sizes::Sizes;
use crate::rules::LogLevel;

/// How to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loading {
    /// How much the tables hold.
    pub sizes: Sizes,
    /// Whether to print the verifier's log of a program that the kernel refuses.
    pub verifier_log: bool,
    /// From which level on the programs write a log.
    pub log: LogLevel,
}
