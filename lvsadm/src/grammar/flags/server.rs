//! Flags of real servers.

use lvs_common::abi::Forward;
use lvs_common::abi::tunnel::{self, TUNNELS, TunnelKind};

use crate::grammar::cmd::Cmd;
use crate::grammar::command::Failure;
use crate::grammar::dialect::Dialect;
use crate::grammar::flag::{Flag, Form, Opt};
use crate::grammar::rule::Rule::{self, Optional, Required};
use crate::grammar::values::ranged;
use lvs_director::rules::Destination;

/// The commands that give a real server its settings.
const SETTERS: &[(Cmd, Rule)] = &[(Cmd::AddServer, Optional), (Cmd::EditServer, Optional)];
/// Greatest weight and threshold.
const GREATEST: i64 = i32::MAX as i64;

/// How packets reach the real server.
pub const FORWARD: Opt = Opt { order: 7, name: "forwarding-method", commands: SETTERS };

/// The place of the forwarding method's flag in what `--save` writes, of which a destination has one.
pub const FORWARD_PLACE: u8 = 0;

/// The flags that set up a real server.
pub const FLAGS: &[Flag] = &[
    Flag::new("real-server", "r", &["server-address is host (and port)"])
        .value("server-address")
        .option(6, &[(Cmd::AddServer, Required), (Cmd::DeleteServer, Required), (Cmd::EditServer, Required)])
        .takes(|draft, argument| draft.take_real_server(argument)),
    Flag::new("gatewaying", "g", &["gatewaying (direct routing) (default)"])
        .shares(FORWARD)
        .takes(|draft, _| {
            draft.forward = Forward::Route;
            Ok(())
        })
        .saved_server(FORWARD_PLACE, |destination, _, _| {
            matches!(destination.forward, Forward::Route | Forward::Local | Forward::Bypass).then(String::new)
        }),
    Flag::new("ipip", "i", &["ipip encapsulation (tunneling)"])
        .shares(FORWARD)
        .takes(|draft, _| {
            draft.forward = Forward::Tunnel;
            Ok(())
        })
        .saved_server(FORWARD_PLACE, |destination, _, _| is_tunnel(destination).then(String::new)),
    // ipvsadm has no word for full NAT, and has to read what it wrote.
    Flag::new("masquerading", "m", &["masquerading (NAT)"])
        .shares(FORWARD)
        .takes(|draft, _| {
            draft.forward = Forward::Masq;
            Ok(())
        })
        .saved_server(FORWARD_PLACE, |destination, _, dialect| match destination.forward {
            Forward::Masq => Some(String::new()),
            Forward::FullNat => (dialect == Dialect::Literal).then(String::new),
            _ => None,
        }),
    Flag::new("tun-type", "", &["one of ipip|gue|gre,", "the default tunnel type is ipip."])
        .value("type")
        .words(|dialect| {
            TUNNELS.iter().filter(|form| dialect == Dialect::Own || form.own.is_none()).map(|form| form.name).collect()
        })
        .option(29, SETTERS)
        .takes(|draft, argument| match TunnelKind::by_name(argument.text()) {
            Some(kind) if kind.form().own.is_none() || argument.dialect == Dialect::Own => {
                draft.tunnel.kind = Some(kind);
                Ok(())
            }
            _ => Failure::usage("illegal tunnel type specified"),
        })
        .saved_server(4, |destination, _, _| {
            is_tunnel(destination).then(|| destination.tunnel.kind.form().name.to_owned())
        }),
    Flag::new("tun-port", "", &["tunnel destination port"])
        .value("port")
        .option(30, SETTERS)
        .takes(|draft, argument| {
            draft.tunnel.port = Some(ranged(argument.text(), 1, 65535, "illegal tunnel port specified")? as u16);
            Ok(())
        })
        .saved_server(5, |destination, _, _| {
            let saved = is_tunnel(destination) && destination.tunnel.kind.form().has_port();
            saved.then(|| destination.tunnel.port.to_string())
        }),
    Flag::new("tun-nocsum", "", &["tunnel encapsulation without checksum"])
        .option(31, SETTERS)
        .takes(|draft, _| {
            draft.tunnel.no_checksum = true;
            Ok(())
        })
        .saved_server(6, |destination, _, _| {
            has_checksum(destination, |flags| flags != tunnel::CSUM && flags != tunnel::REMCSUM)
        }),
    Flag::new("tun-csum", "", &["tunnel encapsulation with checksum"])
        .option(32, SETTERS)
        .takes(|draft, _| {
            draft.tunnel.checksum = true;
            Ok(())
        })
        .saved_server(6, |destination, _, _| has_checksum(destination, |flags| flags == tunnel::CSUM)),
    Flag::new("tun-remcsum", "", &["tunnel encapsulation with remote checksum"])
        .option(33, SETTERS)
        .takes(|draft, _| {
            draft.tunnel.remote_checksum = true;
            Ok(())
        })
        .saved_server(6, |destination, _, _| has_checksum(destination, |flags| flags == tunnel::REMCSUM)),
    Flag::new("weight", "w", &["capacity of real server"])
        .value("weight")
        .option(8, SETTERS)
        .takes(|draft, argument| {
            draft.weight = ranged(argument.text(), 0, GREATEST, "illegal weight specified")?;
            Ok(())
        })
        .saved_server(1, |destination, _, _| Some(destination.weight.to_string())),
    Flag::new("u-threshold", "x", &["upper threshold of connections"])
        .value("uthreshold")
        .option(9, SETTERS)
        .takes(|draft, argument| {
            draft.upper = ranged(argument.text(), 0, GREATEST, "illegal u_threshold specified")?;
            Ok(())
        })
        .saved_server(2, |destination, form, _| threshold(destination.upper, form)),
    Flag::new("l-threshold", "y", &["lower threshold of connections"])
        .value("lthreshold")
        .option(10, SETTERS)
        .takes(|draft, argument| {
            draft.lower = ranged(argument.text(), 0, GREATEST, "illegal l_threshold specified")?;
            Ok(())
        })
        .saved_server(3, |destination, form, _| threshold(destination.lower, form)),
];

/// Whether packets reach the destination in a tunnel.
fn is_tunnel(destination: &Destination) -> bool {
    destination.forward == Forward::Tunnel
}

/// The flag of a form of checksum, if the destination's tunnel has that form.
fn has_checksum(destination: &Destination, is_it: fn(u8) -> bool) -> Option<String> {
    let has_forms = is_tunnel(destination) && destination.tunnel.kind.form().flags != 0;
    (has_forms && is_it(destination.tunnel.flags)).then(String::new)
}

/// A threshold as it is saved. ipvsadm's `-S` leaves thresholds out.
fn threshold(value: u32, form: Form) -> Option<String> {
    (form == Form::Full && value != 0).then(|| value.to_string())
}
