//! What the command line needs of a director, whatever it is made of.

pub mod check;
mod contract;
mod error;
mod memory;

pub use contract::{Access, Director, Result, Room, Wanted, rules};
pub use error::{Error, Operation};
pub use memory::MemoryDirector;
