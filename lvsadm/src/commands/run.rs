//! Which function carries out which sub-command.

use std::process::ExitCode;

use anyhow::Result;

use super::{
    access, apply, attach, capture, doctor, drain, drain_director, explain, generation, mark, metrics, output, status,
    synchronise, sysctl, trace,
};
use crate::agent;
use crate::grammar::subcommands::Sub;
use crate::top;
use lvs_director::dataplane::Defaults;
use lvs_director::rules::AccessKind;

/// Runs a sub-command. Errors are one line, status 2 as ipvsadm's own.
pub fn run(sub: Sub) -> ExitCode {
    let result = match sub {
        Sub::Attach { devices, mode, conns, log, verbose } => {
            Defaults::read().map_err(Into::into).and_then(|mut with| {
                with.mode = mode.unwrap_or(with.mode);
                with.loading.sizes.connections = conns.unwrap_or(with.loading.sizes.connections);
                with.loading.log = log.unwrap_or(with.loading.log);
                with.loading.verifier_log |= verbose;
                attach::attach(&devices, &with)
            })
        }
        Sub::Apply { file, dry_run, after } => apply::apply(&file, after.as_deref(), dry_run),
        // Without --full it is `-S -n`, and does not come here.
        Sub::Save { full: _ } => apply::save(),
        Sub::Detach { devices } => attach::detach(&devices),
        Sub::Status { verifier: true, .. } => status::verifier(),
        Sub::Status { json, .. } => status::status(json),
        Sub::Doctor(arguments) => return finish(doctor::doctor(&arguments)),
        Sub::Explain(arguments) => explain::explain(&arguments),
        Sub::Trace(arguments) => trace::trace(&arguments),
        Sub::Capture(arguments) => capture::capture(&arguments),
        Sub::Metrics { output } => metrics::metrics(output.as_deref()),
        Sub::Drain(arguments) if arguments.director => return finish(drain_director::drain_director(&arguments)),
        Sub::Drain(arguments) => return finish(drain::drain(&arguments)),
        Sub::Mark { action } => mark::mark(&action),
        Sub::Block(arguments) => access::access(AccessKind::Block, &arguments),
        Sub::Allow(arguments) => access::access(AccessKind::Allow, &arguments),
        Sub::Top(arguments) => top::run(&arguments).and_then(|text| text.map_or(Ok(()), |text| output::print(&text))),
        Sub::Unload => attach::unload(),
        Sub::Resize { conns, services, destinations } => generation::resize(conns, services, destinations),
        Sub::Upgrade => generation::upgrade(),
        Sub::Log => attach::log(),
        Sub::Agent(listen) => agent::run(&listen),
        Sub::Synchronise { words } => synchronise::synchronise(&words),
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
