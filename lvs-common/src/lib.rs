//! The map ABI of the LVS data plane and the pure logic that the eBPF object and `lvsadm` share.
//!
//! Everything here is `no_std`, free of panics on any input, and compiled unchanged into the eBPF object. Addresses and ports
//! are kept in network byte order, exactly as they stand in a packet: ports and header fields as [`Be16`](byte_order::Be16) and
//! [`Be32`](byte_order::Be32), an IPv4 address as a `u32` and an IPv6 address as `[u32; 4]`, the words of its bytes in memory.
//! Every other number is in host byte order.
//!
//! # Modules
//!
//! What the maps hold:
//! [`abi`] (the layout of every map, with the tables of [settings](abi::sysctls) and [tunnel kinds](abi::tunnel)) ·
//! [`exit`] (every way a packet can leave the data plane).
//!
//! What stands in a packet:
//! [`wire`] (headers) · [`byte_order`] (numbers of a packet) · [`checksum`] · [`icmp`] (errors and their quotes) · [`icmp_limit`] (how many
//! errors are sent) · [`sip`] (Call-ID) · [`toa`] and [`uoa`] (options
//! that carry the client's address) · [`fragments`].
//!
//! What directors tell each other: [`sync`] (connection synchronisation).
//!
//! What is decided:
//! [`sched`] (schedulers, a file each) · [`state`] (TCP, SCTP and UDP states) · [`table`] (the connection table) ·
//! [`access`] (who may come in) · [`admission`] (which packets may open a connection) · [`persist`] (templates) · [`neighbour`] (neighbours that do not answer) · [`marks`] and [`lookup`] (which service) · [`watch`] and [`hash`] · [`fullnat`], [`ports`] and [`cross`]
//! (FullNAT, its local ports, IPv4 to IPv6) · [`challenge`], [`defence`] and [`evict`] (floods, scarce
//! room, a full table) · [`reset`] (expired
//! connections) · [`estimator`] (rates) · [`health`] (which changes are news).
//!
//! What the BPF verifier needs: [`verifier`].
#![cfg_attr(not(test), no_std)]

pub mod abi;
pub mod access;
pub mod admission;
pub mod byte_order;
pub mod challenge;
pub mod checksum;
pub mod cross;
pub mod defence;
pub mod estimator;
pub mod evict;
pub mod exit;
pub mod fragments;
pub mod fullnat;
pub mod hash;
pub mod health;
pub mod icmp;
pub mod icmp_limit;
pub mod lookup;
pub mod marks;
pub mod neighbour;
pub mod persist;
pub mod ports;
pub mod programs;
pub mod reset;
pub mod sched;
pub mod sip;
pub mod state;
pub mod sync;
pub mod table;
pub mod toa;
pub mod uoa;
pub mod verifier;
pub mod watch;
pub mod wire;
