//! `explain`: what becomes of a packet, and why.

mod account;
mod packets;
mod tell;

pub use account::{Account, Seen, Step, Told, becomes, end, label, name, packet};
pub use packets::{Given, made, parsed, read};
pub use tell::{json, text};
