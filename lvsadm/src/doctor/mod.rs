//! `doctor`: what an operator gets wrong, found by looking and by asking.
//!
//! [`collect`] gathers [facts](facts), with probes on the [`wire`]; the pure [`checks`] make [findings](finding) of facts.

mod checks;
mod collect;
mod facts;
mod finding;
mod wire;

pub use checks::examine;
pub use collect::collect;
pub use finding::{json, status, text};
