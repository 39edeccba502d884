//! Connection states as IPVS has them: numbers, transitions, timeouts, names.
//!
//! A transition table has one row for each direction and event. A row is one word with four bits for each old state,
//! which keeps the tables of a protocol within four cache lines and a transition at one load and one shift.

mod protocols;
mod row;
pub mod sctp;
pub mod tcp;
pub mod udp;

pub use protocols::{SCTP, TCP, UDP, assures, is_active, kept, name, next, timeout};
pub use row::Direction;
