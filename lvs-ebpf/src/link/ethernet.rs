//! The link layer of the object's packets: Ethernet. XDP hands tagged frames up, and TC sees the tag beside the packet.

/// Bytes of headers in front of the network header.
pub const HEADER: usize = 14;
