//! The program's library: ipvsadm's command line, the rules it speaks of, and the directors that carry them out.

use std::env;
use std::io;
use std::process::ExitCode;

mod agent;
pub mod apply;
mod change;
pub mod commands;
mod doctor;
mod explain;
mod firewall;
pub mod grammar;
pub mod names;
mod network;
mod observe;
pub mod real_server;
pub mod render;
pub mod session;
mod snapshot;
mod top;

use grammar::subcommands::{self, Sub};
use names::SystemNames;
use session::{Open, Surroundings};

/// Runs the program: one of lvsadm's own sub-commands by `dispatch`, everything else on the director that `open` gets.
pub fn start(open: Open<'_>, dispatch: impl FnOnce(Sub) -> ExitCode) -> ExitCode {
    let arguments: Vec<String> = env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let mut argv: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match subcommands::parse(&argv) {
        Some(Ok(Sub::Save { full: false })) => argv = vec!["lvsadm", "-S", "-n"],
        Some(Ok(sub)) => return dispatch(sub),
        Some(Err(answer)) => {
            // Help goes to standard output, anything else to standard error; a closed one is no news.
            let _ = answer.print();
            return ExitCode::from(answer.exit_code() as u8);
        }
        None => {}
    }
    let (mut stdin, mut names) = (io::stdin(), SystemNames::default());
    let outcome = session::run(&argv, Surroundings { stdin: &mut stdin, names: &mut names, open });
    match outcome.write(&mut io::stdout(), &mut io::stderr()) {
        Ok(()) => ExitCode::from(outcome.status),
        Err(error) => {
            eprintln!("lvsadm: cannot write: {error}");
            ExitCode::FAILURE
        }
    }
}
