//! lvsadm's own flags. The literal dialect lacks them.

use lvs_common::abi::{Forward, OwnOptions};
use serde_json::json;

use super::server::{FORWARD, FORWARD_PLACE};
use super::service::SETTERS;
use crate::grammar::address::{self, Endpoint};
use crate::grammar::cmd::Cmd;
use crate::grammar::command::Failure;
use crate::grammar::dialect::Dialect;
use crate::grammar::flag::{Flag, Form, OWN, Section};
use crate::grammar::rule::Rule::{Optional, Required};
use crate::grammar::values::timeout;
use lvs_director::rules::{Protocol, ServiceKey};

/// The place of an own flag in what `--save` writes: after all of ipvsadm's, as declared.
const LAST: u8 = u8::MAX;

/// lvsadm's own flags.
pub const FLAGS: &[Flag] = &[
    Flag::new("fullnat", "", &["full NAT (source address translated too)"])
        .within(Section::Own)
        .shares(FORWARD)
        .takes(|draft, _| {
            draft.forward = Forward::FullNat;
            Ok(())
        })
        .saved_server(FORWARD_PLACE, |destination, _, dialect| {
            (destination.forward == Forward::FullNat && dialect == Dialect::Own).then(String::new)
        }),
    Flag::new("conn-timeout", "", &["the service's own connection timeouts,", "0 or none is the one of --set."])
        .value("tcp[:tcpfin[:udp]]")
        .within(Section::Own)
        .option(OWN, SETTERS)
        .takes(|draft, argument| {
            let own = &mut draft.own;
            [own.tcp_timeout, own.tcp_fin_timeout, own.udp_timeout] = own_timeouts(argument.text())?.map(Some);
            Ok(())
        })
        .saved(LAST, |service, form| {
            (form == Form::Full && service.own.has_timeouts()).then(|| timeouts_text(&service.own))
        })
        .listed(|service| service.own.has_timeouts().then(|| format!("timeout {}", timeouts_text(&service.own))))
        .json("timeouts", |service| {
            let [tcp, tcp_fin, udp] = service.own.timeouts();
            if service.own.has_timeouts() { json!({ "tcp": tcp, "tcp_fin": tcp_fin, "udp": udp }) } else { json!(null) }
        }),
    Flag::new("synproxy", "j", &["challenge unknown sources of many TCP SYNs"])
        .value("enable|disable")
        .words(|_| vec!["enable", "disable"])
        .within(Section::Own)
        .option(OWN, SETTERS)
        .takes(|draft, argument| {
            draft.own.synproxy = Some(match argument.text() {
                "enable" => 1,
                "disable" => 0,
                text => {
                    return Failure::usage(format!("illegal synproxy `{text}' specified: it is enable or disable"));
                }
            });
            Ok(())
        })
        .demands(|named| match named.service.key {
            ServiceKey::Address { protocol: Protocol::Udp | Protocol::Sctp, .. } if named.own.synproxy == Some(1) => {
                Failure::usage("synproxy is only for TCP virtual services")
            }
            _ => Ok(()),
        })
        .saved(LAST, |service, form| (form == Form::Full && service.own.synproxy != 0).then(|| "enable".to_owned()))
        .listed(|service| (service.own.synproxy != 0).then(|| "synproxy".to_owned()))
        .json("synproxy", |service| json!(service.own.synproxy != 0)),
    Flag::command(
        Cmd::AddLocal,
        "add-laddr",
        "P",
        &["add a local address of full NAT, to a service's pool", "or, without a service, to the default pool"],
    )
    .within(Section::Own),
    Flag::command(Cmd::DeleteLocal, "del-laddr", "Q", &["delete one"]).within(Section::Own),
    Flag::command(Cmd::ListLocals, "get-laddr", "G", &["list them"]).within(Section::Own),
    Flag::new("laddr", "z", &["local address"])
        .value("address")
        .within(Section::Own)
        .option(OWN, &[(Cmd::AddLocal, Required), (Cmd::DeleteLocal, Required)])
        .takes(|draft, argument| match address::parse(argument.text(), None, argument.names) {
            Some(Endpoint { address, port: None }) => {
                draft.local = Some(address);
                Ok(())
            }
            _ => Failure::usage(format!("illegal local address `{}' specified", argument.text())),
        }),
    // Other implementations choose the device by it. Here routes do, so it is taken without effect.
    Flag::new("ifname", "F", &[])
        .value("device")
        .within(Section::OwnHidden)
        .option(OWN, &[(Cmd::AddLocal, Optional), (Cmd::DeleteLocal, Optional)]),
    Flag::new("json", "", &["listings as JSON: see docs/reference/json.md"])
        .within(Section::Own)
        .option(JSON_ORDER, &[(Cmd::List, Optional), (Cmd::ListLocals, Optional)])
        .takes(|draft, _| {
            draft.json = true;
            Ok(())
        }),
];

/// `--json` is checked before lvsadm's other options.
const JSON_ORDER: u8 = 34;

/// The timeouts of a service, `TCP[:TCPFIN[:UDP]]`; those that are not given are 0.
fn own_timeouts(text: &str) -> Result<[u32; 3], Failure> {
    let mut values = [0; 3];
    let mut parts = text.split(':');
    for (value, part) in values.iter_mut().zip(&mut parts) {
        *value = timeout(part, 0)?;
    }
    if parts.next().is_some() {
        return Failure::usage(format!("invalid timeout value `{text}' specified: it is tcp[:tcpfin[:udp]]"));
    }
    Ok(values)
}

/// Timeouts as `--conn-timeout` takes them.
fn timeouts_text(own: &OwnOptions) -> String {
    own.timeouts().map(|seconds| seconds.to_string()).join(":")
}
