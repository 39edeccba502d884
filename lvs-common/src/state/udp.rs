//! UDP, which has one state. Its connections are always counted as inactive.

/// The state of every UDP connection.
pub const NORMAL: u8 = 0;

/// Names by number.
pub const NAMES: [&str; 1] = ["UDP"];
