//! The Ethernet header.

/// Length of the Ethernet header, all that stands before the outer IP header.
pub const ETHERNET: usize = 14;
