//! ipvsadm's command line, exactly: popt's order rules, every message, every exit code.
//!
//! [`flags`] declares each flag once. An argument vector goes through three steps. [`popt`] cuts it into flags and values,
//! [`parse`] reads the values in their order (errors depend on that order) into a [`draft`], and [`matrix`] checks which
//! options the command requires and allows. The result is a [`Command`], or a [`Failure`] with ipvsadm's own sentence.
//! [`subcommands`] are lvsadm's own and clap's.

mod address;
mod argument;
mod choice;
mod cmd;
mod command;
mod dialect;
mod draft;
mod flag;
pub mod flags;
mod help;
mod matrix;
mod parse;
mod popt;
mod rule;
pub mod subcommands;
mod values;

pub use cmd::Cmd;
pub use command::{Command, Failure, List, Mode, Named};
pub use dialect::Dialect;
pub use help::{SYNOPSIS, help, version};
pub use parse::parse;
