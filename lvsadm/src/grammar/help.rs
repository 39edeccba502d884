//! The help, made of the table of flags.

use std::fmt::Write;

use clap::CommandFactory;
use lvs_common::abi::tunnel::TUNNELS;

use super::dialect::Dialect;
use super::flags::{Flag, Section, Value, flags};
use super::subcommands::Cli;

/// How the commands are written, after the program's name.
pub const SYNOPSIS: [&str; 13] = [
    "-A|E virtual-service [-s scheduler] [-p [timeout]] [-M netmask] [--pe persistence_engine] [-b sched-flags]",
    "-D virtual-service",
    "-C",
    "-R",
    "-S [-n]",
    "-a|e virtual-service -r server-address [options]",
    "-d virtual-service -r server-address",
    "-L|l [virtual-service] [options]",
    "-Z [virtual-service]",
    "--set tcp tcpfin udp",
    "--start-daemon {master|backup} [daemon-options]",
    "--stop-daemon {master|backup}",
    "-h",
];

/// The version line.
pub fn version(dialect: Dialect) -> String {
    match dialect {
        Dialect::Literal => "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)\n".to_owned(),
        Dialect::Own => format!("lvsadm v{} (speaks ipvsadm v1.31 and IPVS v1.2.1)\n", env!("CARGO_PKG_VERSION")),
    }
}

/// The whole help for a program that was invoked as `program`.
pub fn help(program: &str, dialect: Dialect) -> String {
    let mut text = version(dialect);
    text.push_str("Usage:\n");
    for line in SYNOPSIS {
        push(&mut text, format_args!("  {program} {line}\n"));
    }
    text.push_str("\nCommands:\nEither long or short options are allowed.\n");
    section(&mut text, Section::Commands, 28);
    text.push_str("\nvirtual-service:\n");
    section(&mut text, Section::Service, 36);
    text.push_str("\nOptions:\n");
    section(&mut text, Section::Options, 36);
    text.push_str("Daemon Options:\n");
    section(&mut text, Section::Daemon, 36);
    if dialect == Dialect::Own {
        text.push_str("\nBeyond ipvsadm:\n");
        section(&mut text, Section::Own, 36);
        for form in TUNNELS {
            if let Some(about) = form.own {
                push(&mut text, format_args!("  {:<36}{about}\n", format!("--tun-type {}", form.name)));
            }
        }
        for command in Cli::command().get_subcommands() {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            push(&mut text, format_args!("  {:<36}{about}\n", format!("lvsadm {}", command.get_name())));
        }
    }
    text
}

/// Appends what cannot fail to be appended.
fn push(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = text.write_fmt(what);
}

/// Appends the flags of a section, explained from column `width` on.
fn section(text: &mut String, section: Section, width: usize) {
    for flag in flags().filter(|flag| flag.section == section) {
        let mut left = left(flag);
        for line in flag.help {
            push(text, format_args!("  {left:<width$}{line}\n"));
            left.clear();
        }
    }
}

/// A flag as it is written, laid out as its section does.
fn left(flag: &Flag) -> String {
    let Flag { long, placeholder, .. } = *flag;
    let shorts: Vec<String> = flag.short.chars().map(|short| format!("-{short}")).collect();
    let shorts = shorts.join("|");
    match flag.section {
        Section::Commands if !placeholder.is_empty() => format!("--{long} {placeholder}"),
        Section::Commands => format!("{:<18}{shorts}", format!("--{long}")),
        Section::Service if shorts.is_empty() => format!("{:<18}{placeholder}", format!("--{long}")),
        Section::Service => {
            let name = format!("--{long}|{shorts}");
            if name.len() < 18 { format!("{name:<18}{placeholder}") } else { format!("{name} {placeholder}") }
        }
        Section::Daemon => format!("--{long} {placeholder}"),
        _ if flag.value == Value::No => format!("{:<15}{shorts}", format!("--{long}")),
        _ if shorts.is_empty() => format!("{:<16}{placeholder}", format!("--{long}")),
        _ => format!("{:<15}{shorts} {placeholder}", format!("--{long}")),
    }
}
