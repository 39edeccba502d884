//! The pages, each a table.

mod exits;
mod floods;
mod service;
mod services;
mod shown;
mod table;

pub use shown::table;
pub use table::{Row, Table};
