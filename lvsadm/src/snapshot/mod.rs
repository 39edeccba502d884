//! What a director is and does at one moment: read once, shown in many ways. `metrics`, `top` and the agent's HTTP endpoint
//! are made of it.

mod lists;
mod rates;
mod select;
mod take;

pub use lists::sizes;
pub use rates::{Change, PerSecond};
pub use select::{Key, label, select};
pub use take::Snapshot;
