//! Fragments, TC only. As IPVS sees packets after the kernel's reassembly, fragments wait until all have come (`serve`). Then
//! `join` joins the packet, which is served as a whole and leaves in fragments no longer than they came (`split`). If a
//! packet is too long to be joined, `release` has its fragments come in again, and they are forwarded one by one.

pub mod finish;
pub mod join;
pub mod release;
pub mod serve;
pub mod split;
