//! The eBPF object's functions.

mod attached;
mod tail;
