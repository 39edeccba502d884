//! lvsadm's own sub-commands.

mod apply;
mod attach;
mod drain;
mod mark;
mod metrics;
mod status;
mod sysctl;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::dataplane::{self, Defaults, PlaneDirector};
use crate::director;
use crate::grammar::subcommands::Sub;

/// Runs a sub-command. Errors are one line, status 2 as ipvsadm's own.
pub fn run(sub: Sub) -> ExitCode {
    let result = match sub {
        Sub::Attach { devices, mode, conns, log, verbose } => {
            Defaults::read().map_err(Into::into).and_then(|mut with| {
                if !devices.is_empty() {
                    with.devices = devices;
                }
                with.mode = mode.unwrap_or(with.mode);
                with.loading.sizes.connections = conns.unwrap_or(with.loading.sizes.connections);
                with.loading.log = log.unwrap_or(with.loading.log);
                with.loading.verifier_log |= verbose;
                attach::attach(&with)
            })
        }
        Sub::Apply { file, dry_run } => apply::apply(&file, dry_run),
        // Without --full it is `-S -n`, and does not come here.
        Sub::Save { full: _ } => apply::save(),
        Sub::Detach { devices } => attach::detach(&devices),
        Sub::Status { verifier: true, .. } => status::verifier(),
        Sub::Status { json, .. } => status::status(json),
        Sub::Metrics { output } => metrics::metrics(output.as_deref()),
        Sub::Drain(arguments) => return finish(drain::drain(&arguments)),
        Sub::Mark { action } => mark::mark(&action),
        Sub::Unload => attach::unload(),
        Sub::Log => attach::log(),
        Sub::RealServer(arguments) => crate::real_server::run(&arguments),
        Sub::Sysctl { explain: true, settings, .. } => sysctl::explain(&settings),
        Sub::Sysctl { reset, settings, .. } => sysctl::sysctl(reset, &settings),
    };
    finish(result.map(|()| ExitCode::SUCCESS))
}

/// Tells of an error, if it is one.
fn finish(result: Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("lvsadm: {error:#}");
        ExitCode::from(2)
    })
}

/// Prints a text. A reader that has gone away is no error.
fn print(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("cannot write"),
        _ => Ok(()),
    }
}

/// Opens the director for ipvsadm's commands: the first use loads the data plane and attaches it, as ipvsadm loads `ip_vs`.
pub fn open() -> director::Result<PlaneDirector> {
    dataplane::ready().map(PlaneDirector::new).map_err(director::Error::from)
}
