//! `lvsadm`: see the library.

use std::process::ExitCode;

use lvsadm::commands;

fn main() -> ExitCode {
    let mut slot = None;
    let director = &mut slot;
    lvsadm::start(Box::new(move |access, room| Ok(director.insert(commands::open(access, room)?))), commands::run)
}
