//! The helpers, under `aya_ebpf::helpers`' names. What each does is in `bpf-helpers(7)`; where that is silent, what is known of the
//! kernel's behaviour stands beside it.

pub mod generated;

pub use generated::bpf_get_smp_processor_id;
