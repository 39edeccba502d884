//! From arguments to a checked command.

use super::argument::Argument;
use super::cmd::Cmd;
use super::command::{Command, Failure};
use super::dialect::Dialect;
use super::draft::Draft;
use super::flag::Act;
use super::flags::flags;
use super::matrix::Given;
use super::popt::Popt;
use super::values::timeout;
use crate::names::Names;
use lvs_director::rules::{Role, Timeouts};

/// Reads the arguments after the program's name.
pub fn parse(arguments: &[&str], dialect: Dialect, names: &mut dyn Names) -> Result<Command, Failure> {
    let mut popt = Popt::new(arguments, dialect);
    let (command, value) = match popt.flag() {
        Some(Ok((flag, value))) => match flag.act {
            Act::Command(command) => (command, value),
            Act::Help => return Ok(Command::Help),
            Act::Version => return Ok(Command::Version),
            Act::Take(_) => return Err(Failure::NoCommand),
        },
        _ => return Err(Failure::NoCommand),
    };
    let (mut draft, mut given) = (Draft::new(), Given::default());
    draft.daemon.role = role(command, value)?;
    while let Some(flag) = popt.flag() {
        let (flag, value) = flag.map_err(|bad| Failure::Option(format!("{}: {}", popt.culprit(), bad.text())))?;
        let Act::Take(take) = flag.act else {
            return Failure::usage(format!("invalid option `{}'", popt.culprit()));
        };
        given.add(flag)?;
        take(&mut draft, Argument { value, dialect, names })?;
    }
    let mut positional = popt.positional().into_iter();
    if command == Cmd::Set {
        draft.timeouts = timeouts(&mut positional)?;
    }
    if let Some(extra) = positional.next() {
        return Failure::usage(format!("unexpected argument {extra}"));
    }
    draft.read_sched_flags()?;
    given.check(command)?;
    let command = draft.finish(command)?;
    if let Command::AddService(named) | Command::EditService(named) = &command {
        flags().try_for_each(|flag| (flag.demands)(named))?;
    }
    Ok(command)
}

/// Reads the word that says which sync daemon; of other commands there is none.
fn role(command: Cmd, word: Option<&str>) -> Result<Role, Failure> {
    match (command, word.map(Role::by_name)) {
        (_, Some(Some(role))) => Ok(role),
        (_, None) => Ok(Role::Master),
        (Cmd::StartDaemon, _) => Failure::usage("illegal start-daemon parameter specified"),
        _ => Failure::usage("illegal start_daemon specified"),
    }
}

/// The three values of `--set`.
fn timeouts<'a>(values: &mut impl Iterator<Item = &'a str>) -> Result<Timeouts, Failure> {
    let (Some(tcp), Some(tcp_fin), Some(udp)) = (values.next(), values.next(), values.next()) else {
        return Failure::usage("--set option requires 3 timeout values");
    };
    Ok(Timeouts { tcp: timeout(tcp, 0)?, tcp_fin: timeout(tcp_fin, 0)?, udp: timeout(udp, 0)? })
}
