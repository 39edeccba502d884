//! ipvsadm's command line, exactly: popt's order rules, every message, every exit code.
//!
//! An argument vector goes through three steps. [`popt`] cuts it into flags and values by the table in [`flags`],
//! [`parse`] reads the values in the order they come (errors depend on that order), and [`matrix`] says which options a
//! command requires and allows. What comes out is a [`Command`], or a [`Failure`] with ipvsadm's own sentence.
//! [`subcommands`] are lvsadm's own and clap's.

mod address;
mod choice;
mod command;
pub mod flags;
mod help;
mod matrix;
mod parse;
mod popt;
pub mod subcommands;
mod values;

pub use command::{Command, Failure, List, Mode, Named};
pub use help::{SYNOPSIS, help, version};
pub use matrix::Cmd;
pub use parse::parse;

/// Whose command line is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// ipvsadm's to the letter: the program was invoked by that name.
    Literal,
    /// ipvsadm's and lvsadm's own additions.
    Own,
}
