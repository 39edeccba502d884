//! Fragments, TC only. As IPVS sees packets behind the kernel's reassembly, fragments are put together first (`assemble`),
//! the packet is served as a whole, and leaves in fragments no larger than they came (`split`).

pub mod assemble;
pub mod split;
