//! Flags of the synchronisation daemon.

use crate::grammar::cmd::Cmd;
use crate::grammar::command::Failure;
use crate::grammar::flag::{Flag, OWN, Opt, Section};
use crate::grammar::rule::Rule::{self, Optional};
use crate::grammar::values::{self, ranged};
use std::net::IpAddr;
use std::path::Path;

/// The command that starts the daemon.
const START: &[(Cmd, Rule)] = &[(Cmd::StartDaemon, Optional)];

/// Where messages go.
const GROUP: Opt = Opt { order: 24, name: "mcast-group", commands: START };

/// Longest name of a device, bytes; ipvsadm cuts a longer one.
const LONGEST_NAME: usize = 15;

/// The daemon's flags.
pub const FLAGS: &[Flag] = &[
    Flag::new("syncid", "", &["syncid for connection sync (default=255)"])
        .value("sid")
        .within(Section::Daemon)
        .option(19, &[(Cmd::List, Optional), (Cmd::StartDaemon, Optional), (Cmd::StopDaemon, Optional)])
        .takes(|draft, argument| {
            draft.daemon.syncid = ranged(argument.text(), 0, 255, "illegal syncid specified")? as u8;
            Ok(())
        }),
    Flag::new("sync-maxlen", "", &["Max sync message length (default=1472)"])
        .value("length")
        .within(Section::Daemon)
        .option(27, START)
        .takes(|draft, argument| {
            draft.daemon.maxlen = ranged(argument.text(), 1, 65507, "illegal sync-maxlen specified")? as u16;
            Ok(())
        }),
    Flag::new("mcast-interface", "", &["multicast interface for connection sync"])
        .value("interface")
        .within(Section::Daemon)
        .option(11, START)
        .takes(|draft, argument| {
            draft.daemon.interface = values::cut(argument.text(), LONGEST_NAME).to_owned();
            Ok(())
        }),
    Flag::new("mcast-group", "", &["IPv4/IPv6 group (default=224.0.0.81)"])
        .value("address")
        .within(Section::Daemon)
        .shares(GROUP)
        .takes(|draft, argument| match values::multicast_group(argument.text()) {
            Ok(group) => {
                draft.daemon.group = group;
                Ok(())
            }
            Err(family) => Failure::usage(format!("invalid {family} mcast-group `{}'", argument.text())),
        }),
    Flag::new("mcast-port", "", &["UDP port (default=8848)"])
        .value("port")
        .within(Section::Daemon)
        .option(25, START)
        .takes(|draft, argument| {
            draft.daemon.port = ranged(argument.text(), 1, 65535, "illegal mcast-port specified")? as u16;
            Ok(())
        }),
    Flag::new("mcast-ttl", "", &["Multicast TTL (default=1)"])
        .value("ttl")
        .within(Section::Daemon)
        .option(26, START)
        .takes(|draft, argument| {
            draft.daemon.ttl = ranged(argument.text(), 1, 255, "illegal mcast-ttl specified")? as u8;
            Ok(())
        }),
    Flag::new("peer", "", &["the one other director, instead of a group"])
        .value("address")
        .within(Section::Own)
        .shares(GROUP)
        .takes(|draft, argument| {
            let is_host = |ip: &IpAddr| !(ip.is_multicast() || ip.is_unspecified() || ip.is_loopback());
            let Some(peer) = argument.text().parse().ok().filter(is_host) else {
                let sentence = format!("invalid peer `{}': it is the other director's address", argument.text());
                return Failure::usage(sentence);
            };
            draft.daemon.group = peer;
            Ok(())
        }),
    Flag::new("sync-key", "", &["seal messages with the key in a file"])
        .value("file")
        .within(Section::Own)
        .option(OWN, START)
        .takes(|draft, argument| match std::path::absolute(Path::new(argument.text())) {
            Ok(path) => {
                draft.daemon.key = Some(path);
                Ok(())
            }
            Err(_) => Failure::usage("illegal sync-key specified: it is the name of a file".to_owned()),
        }),
];
