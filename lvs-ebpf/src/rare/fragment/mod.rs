//! Fragments, TC only. As IPVS sees packets after the kernel's reassembly, fragments wait until all have come (`serve`). Then the
//! packet is joined (`join`), served as a whole, and leaves in fragments no larger than they came (`split`); the fragments of one
//! that is too long to be joined come in again (`release`) and are forwarded one by one.

pub mod finish;
pub mod join;
pub mod release;
pub mod serve;
pub mod split;
