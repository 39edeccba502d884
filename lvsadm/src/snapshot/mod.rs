//! What a director is and does at one moment: read once, shown in many ways. `metrics` and the agent's HTTP endpoint are
//! made of it.

mod lists;
mod select;
mod take;

pub use lists::sizes;
pub use select::{Key, Order, label, select};
pub use take::Snapshot;
