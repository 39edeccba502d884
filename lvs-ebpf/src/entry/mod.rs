//! The eBPF object's functions.

mod attached;
mod tail_tc;
mod tail_xdp;
