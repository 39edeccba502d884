//! The command line as clap describes one: ipvsadm's flags from their table, and lvsadm's sub-commands as they are. clap
//! could not parse it so (the table says why), but pages and completions are made of descriptions.

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, Command, CommandFactory};
use lvsadm::grammar::Dialect;
use lvsadm::grammar::flags::{Flag, Section, Value, flags};
use lvsadm::grammar::subcommands::Cli;

/// Whose flags come under which heading.
const HEADINGS: [(Section, &str); 5] = [
    (Section::Commands, "Commands"),
    (Section::Service, "Virtual services"),
    (Section::Options, "Options"),
    (Section::Daemon, "Options of the synchronisation daemon"),
    (Section::Own, "Options beyond ipvsadm"),
];

/// The command of a dialect.
pub fn command(dialect: Dialect) -> Command {
    let (name, about) = match dialect {
        Dialect::Own => ("lvsadm", "Linux Virtual Server administration on eBPF"),
        Dialect::Literal => ("ipvsadm", "Linux Virtual Server administration, by lvsadm"),
    };
    let mut command = Command::new(name)
        .about(about)
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_flag(true)
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .args(arguments(dialect));
    if dialect == Dialect::Own {
        command = command.subcommands(Cli::command().get_subcommands().cloned());
    }
    command
}

/// The flags of a dialect. One that the table has twice, for a short name that the help does not show, is one here.
fn arguments(dialect: Dialect) -> Vec<Arg> {
    let mut arguments: Vec<Arg> = Vec::new();
    for flag in flags().filter(|flag| flag.is_in(dialect)) {
        match arguments.iter_mut().find(|argument| argument.get_id() == flag.long) {
            Some(known) => {
                let shorts = known.clone().short(flag.short.chars().next());
                *known = shorts;
            }
            None => arguments.push(argument(flag, dialect)),
        }
    }
    arguments
}

/// A flag as clap describes one.
fn argument(flag: &Flag, dialect: Dialect) -> Arg {
    let mut shorts = flag.short.chars();
    let mut argument = Arg::new(flag.long).long(flag.long).short(shorts.next()).help(flag.help.join(" "));
    argument = argument.visible_short_aliases(shorts.collect::<Vec<_>>());
    argument = match HEADINGS.iter().find(|(section, _)| *section == flag.section) {
        Some((_, heading)) => argument.help_heading(*heading),
        None => argument.hide(true),
    };
    let names: Vec<&'static str> = flag.placeholder.trim_matches(['[', ']']).split_whitespace().collect();
    argument = match flag.value {
        Value::No if names.is_empty() => argument.action(ArgAction::SetTrue),
        Value::No => argument.num_args(names.len()),
        Value::Yes => argument.num_args(1),
        Value::Optional => argument.num_args(0..=1),
    };
    if !names.is_empty() {
        argument = argument.value_names(names);
    }
    match (flag.words)(dialect) {
        values if values.is_empty() => argument,
        values => argument.value_parser(PossibleValuesParser::new(values)).hide_possible_values(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_finds_no_fault_in_the_descriptions() {
        for dialect in [Dialect::Own, Dialect::Literal] {
            command(dialect).debug_assert();
        }
    }
}
