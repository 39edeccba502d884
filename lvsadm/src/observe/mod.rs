//! `trace`, `capture` and `explain --next`: packets as they come to the data plane and leave it.

mod expression;
mod file;
mod frame;
mod next;
mod story;
mod tell;
mod watch;

pub use expression::{compile, of_flow};
pub use file::File;
pub use next::{Came, next};
pub use story::{Chosen, Teller};
pub use tell::{json, text};
pub use watch::{Watch, memory};
