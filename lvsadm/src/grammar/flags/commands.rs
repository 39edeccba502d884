//! Commands.

use crate::grammar::cmd::Cmd;
use crate::grammar::flag::{Act, Flag, Section, Value};

/// The sync daemons.
const DAEMONS: &[&str] = &["master", "backup"];

/// ipvsadm's commands.
#[rustfmt::skip]
pub const FLAGS: &[Flag] = &[
    Flag::command(Cmd::AddService, "add-service", "A", &["add virtual service with options"]),
    Flag::command(Cmd::EditService, "edit-service", "E", &["edit virtual service with options"]),
    Flag::command(Cmd::DeleteService, "delete-service", "D", &["delete virtual service"]),
    Flag::command(Cmd::Flush, "clear", "C", &["clear the whole table"]),
    Flag::command(Cmd::Restore, "restore", "R", &["restore rules from stdin"]),
    Flag::command(Cmd::Save, "save", "S", &["save rules to stdout"]),
    Flag::command(Cmd::AddServer, "add-server", "a", &["add real server with options"]),
    Flag::command(Cmd::EditServer, "edit-server", "e", &["edit real server with options"]),
    Flag::command(Cmd::DeleteServer, "delete-server", "d", &["delete real server"]),
    Flag::command(Cmd::List, "list", "Ll", &["list the table"]),
    Flag::command(Cmd::Zero, "zero", "Z", &["zero counters in a service or all services"]),
    Flag { placeholder: "tcp tcpfin udp",
        ..Flag::command(Cmd::Set, "set", "", &["set connection timeout values"]) },
    Flag { value: Value::Yes,
        ..Flag::command(Cmd::StartDaemon, "start-daemon", "", &["start connection sync daemon"]) }
        .words(|_| DAEMONS.to_vec()),
    Flag { value: Value::Yes,
        ..Flag::command(Cmd::StopDaemon, "stop-daemon", "", &["stop connection sync daemon"]) }
        .words(|_| DAEMONS.to_vec()),
    Flag { act: Act::Help, section: Section::Commands,
        ..Flag::new("help", "h", &["display this help message"]) },
    Flag { act: Act::Version, section: Section::Hidden, ..Flag::new("version", "v", &[]) },
];
