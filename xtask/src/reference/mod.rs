//! `cargo xtask docs`: chapters of the reference that are written from the code's own tables.

mod chapters;
mod command;
mod tables;

pub use command::{check, write};
