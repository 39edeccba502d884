//! The map ABI of the LVS data plane and the pure logic that the eBPF object and `lvsadm` share.
//!
//! Everything here is `no_std`, free of panics on any input, and compiled unchanged into the eBPF object.
//! Addresses and ports are kept in network byte order exactly as they stand in a packet (`*_be` in names or
//! said in the field's docstring); all other numbers are host order.
#![cfg_attr(not(test), no_std)]

pub mod abi;
pub mod bench;
pub mod challenge;
pub mod checksum;
pub mod cross;
pub mod defence;
pub mod each;
pub mod estimator;
pub mod exit;
pub mod fullnat;
pub mod hash;
pub mod icmp;
pub mod marks;
pub mod persist;
pub mod ports;
pub mod programs;
pub mod reassembly;
pub mod reset;
pub mod sched;
pub mod sip;
pub mod state;
pub mod table;
pub mod toa;
pub mod uoa;
pub mod watch;
pub mod wire;
