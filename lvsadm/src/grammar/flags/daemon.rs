//! Flags of the synchronisation daemon, which this build lacks: values are checked and not used.

use crate::grammar::cmd::Cmd;
use crate::grammar::command::Failure;
use crate::grammar::flag::{Flag, Section};
use crate::grammar::rule::Rule::{self, Optional};
use crate::grammar::values::{self, ranged};

/// The command that starts the daemon.
const START: &[(Cmd, Rule)] = &[(Cmd::StartDaemon, Optional)];

/// The daemon's flags.
pub const FLAGS: &[Flag] = &[
    Flag::new("syncid", "", &["syncid for connection sync (default=255)"])
        .value("sid")
        .within(Section::Daemon)
        .option(19, &[(Cmd::List, Optional), (Cmd::StartDaemon, Optional), (Cmd::StopDaemon, Optional)])
        .takes(|_, argument| ranged(argument.text(), 0, 255, "illegal syncid specified").map(drop)),
    Flag::new("sync-maxlen", "", &["Max sync message length (default=1472)"])
        .value("length")
        .within(Section::Daemon)
        .option(27, START)
        .takes(|_, argument| ranged(argument.text(), 1, 65507, "illegal sync-maxlen specified").map(drop)),
    Flag::new("mcast-interface", "", &["multicast interface for connection sync"])
        .value("interface")
        .within(Section::Daemon)
        .option(11, START),
    Flag::new("mcast-group", "", &["IPv4/IPv6 group (default=224.0.0.81)"])
        .value("address")
        .within(Section::Daemon)
        .option(24, START)
        .takes(|_, argument| match values::multicast_group(argument.text()) {
            Ok(_) => Ok(()),
            Err(family) => Failure::usage(format!("invalid {family} mcast-group `{}'", argument.text())),
        }),
    Flag::new("mcast-port", "", &["UDP port (default=8848)"])
        .value("port")
        .within(Section::Daemon)
        .option(25, START)
        .takes(|_, argument| ranged(argument.text(), 1, 65535, "illegal mcast-port specified").map(drop)),
    Flag::new("mcast-ttl", "", &["Multicast TTL (default=1)"])
        .value("ttl")
        .within(Section::Daemon)
        .option(26, START)
        .takes(|_, argument| ranged(argument.text(), 1, 255, "illegal mcast-ttl specified").map(drop)),
];
