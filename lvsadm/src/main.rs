//! `lvsadm`: see the library.

use std::process::ExitCode;

use lvsadm::commands;

fn main() -> ExitCode {
    let mut slot = None;
    let director = &mut slot;
    lvsadm::start(Box::new(move |access| Ok(director.insert(commands::open(access)?))), commands::run)
}
