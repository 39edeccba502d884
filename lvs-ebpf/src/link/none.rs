//! The link layer of the object's packets: none. They begin with the network header.

/// Bytes of headers in front of the network header.
pub const HEADER: usize = 0;
