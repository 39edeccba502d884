//! Flags of the synchronisation daemon.

use crate::grammar::cmd::Cmd;
use crate::grammar::command::Failure;
use crate::grammar::flag::{Flag, OWN, Opt, Section};
use crate::grammar::rule::Rule::{self, Optional};
use crate::grammar::values::{self, ranged};
use lvs_director::rules::Daemon;
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
    Flag::new("peer", "", &["the other directors, with commas between them, instead of a group"])
        .value("address")
        .within(Section::Own)
        .shares(GROUP)
        .takes(|draft, argument| match peers(argument.text()) {
            Ok(mut peers) => {
                draft.daemon.group = peers.remove(0);
                draft.daemon.further = peers;
                Ok(())
            }
            Err(sentence) => Failure::usage(sentence),
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

/// The addresses of other directors, at least one: all of one family, each once.
fn peers(text: &str) -> Result<Vec<IpAddr>, String> {
    let is_host = |ip: &IpAddr| !(ip.is_multicast() || ip.is_unspecified() || ip.is_loopback());
    let mut peers: Vec<IpAddr> = Vec::new();
    for word in text.split(',') {
        let peer = word.parse().ok().filter(is_host);
        let peer = peer.ok_or_else(|| format!("invalid peer `{word}': it is another director's address"))?;
        if peers.first().is_some_and(|first| first.is_ipv4() != peer.is_ipv4()) {
            return Err(format!("invalid peer `{word}': peers are of one address family"));
        }
        if peers.contains(&peer) {
            return Err(format!("invalid peer `{word}': it is named twice"));
        }
        peers.push(peer);
    }
    if peers.len() > Daemon::PEERS {
        return Err(format!("{} peers: {} are the most; use a multicast group", peers.len(), Daemon::PEERS));
    }
    Ok(peers)
}
