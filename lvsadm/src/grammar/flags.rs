//! Every flag, declared once. A declaration says everything that parsing, help, the checks of commands, `--save`,
//! listings, JSON, man pages and completions know of the flag.

mod commands;
mod daemon;
mod listing;
mod own;
mod server;
mod service;
mod table;

pub use super::flag::{Act, Flag, Form, Member, Opt, Saved, Section, Value};
pub use table::{flags, saved_destination, saved_service};
