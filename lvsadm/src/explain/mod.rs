//! `explain`: what becomes of a packet, and why.

mod account;
mod packets;
mod tell;

pub use account::{Account, Told};
pub use packets::{Given, made, read};
pub use tell::{json, text};
