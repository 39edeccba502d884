//! Changes of the director's health that somebody should hear of: looked for now and then, and written to the journal once each.

mod event;
mod journal;
mod look;
mod neighbours;

pub use journal::Journal;
pub use look::{Health, INTERVAL};
