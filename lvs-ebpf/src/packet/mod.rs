pub mod access;
pub mod checksum;
pub mod control_block;
pub mod own_segment;
pub mod parse;
pub mod tc;
pub mod ttl;
pub mod xdp;
