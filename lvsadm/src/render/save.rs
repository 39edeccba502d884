//! `-S`

use std::fmt::Write;
use std::net::IpAddr;

use lvs_common::abi::{Forward, tunnel};

use super::label::{Labels, own_timeouts};
use crate::grammar::Dialect;
use crate::rules::{Destination, Family, Protocol, Service, ServiceEntry, ServiceKey, flag_names, scheduler_name};

/// How much of a rule is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// What ipvsadm's `-S` has.
    Saved,
    /// Everything.
    Full,
}

/// Appends the commands that make a service and its destinations, as `-S` has them.
pub fn save(text: &mut String, labels: &mut Labels<'_>, entry: &ServiceEntry) {
    service(text, labels, &entry.service, Form::Saved);
    for listed in &entry.destinations {
        destination(text, labels, &entry.service.key, &listed.destination, Form::Saved);
    }
}

/// Appends the command that makes a service.
pub fn service(text: &mut String, labels: &mut Labels<'_>, service: &Service, form: Form) {
    let _ = write!(text, "-A {} -s {}", service_option(labels, &service.key), scheduler_name(service.scheduler));
    if service.is_persistent() {
        let _ = write!(text, " -p {}", service.timeout);
    }
    // Without persistence it is kept, but has no effect.
    if !service.netmask.is_full() && (service.is_persistent() || form == Form::Full) {
        let _ = write!(text, " -M {}", service.netmask);
    }
    if let Some(engine) = service.engine {
        let _ = write!(text, " --pe {}", engine.name());
    }
    if service.is_one_packet() {
        text.push_str(" -o");
    }
    let flags = flag_names(service.scheduler, service.flags);
    if !flags.is_empty() {
        let _ = write!(text, " -b {flags}");
    }
    if form == Form::Full {
        if service.has_timeouts() {
            let _ = write!(text, " --conn-timeout {}", own_timeouts(&service.timeouts));
        }
        if service.challenges() {
            text.push_str(" -j enable");
        }
    }
    text.push('\n');
}

/// Appends the command that makes a destination of a service.
pub fn destination(
    text: &mut String,
    labels: &mut Labels<'_>,
    service: &ServiceKey,
    destination: &Destination,
    form: Form,
) {
    let key = service_option(labels, service);
    let name = labels.endpoint(destination.key.address, destination.key.port, service.protocol());
    let forward = forward_option(destination.forward, labels.dialect());
    let _ = write!(text, "-a {key} -r {name} {forward} -w {}", destination.weight);
    if form == Form::Full {
        let thresholds = [("-x", destination.upper), ("-y", destination.lower)];
        for (option, value) in thresholds.into_iter().filter(|threshold| threshold.1 != 0) {
            let _ = write!(text, " {option} {value}");
        }
    }
    tunnel_options(text, destination);
    text.push('\n');
}

/// Appends the command that adds a local address to a service's, or to the default pool.
pub fn local(text: &mut String, labels: &mut Labels<'_>, service: Option<&ServiceKey>, address: IpAddr) {
    let service = service.map(|key| format!(" {}", service_option(labels, key))).unwrap_or_default();
    let _ = writeln!(text, "--add-laddr{service} -z {address}");
}

/// The option that names a service.
fn service_option(labels: &mut Labels<'_>, key: &ServiceKey) -> String {
    match *key {
        ServiceKey::Fwmark { mark, family: Family::V4 } => format!("-f {}", labels.mark(mark)),
        ServiceKey::Fwmark { mark, family: Family::V6 } => format!("-f {} -6", labels.mark(mark)),
        ServiceKey::Address { protocol, address, port } => {
            let option = match protocol {
                Protocol::Tcp => "-t",
                Protocol::Udp => "-u",
                Protocol::Sctp => "--sctp-service",
            };
            format!("{option} {}", labels.endpoint(address, port, Some(protocol)))
        }
    }
}

/// The option of a forwarding method. Full NAT has none in ipvsadm, which is to read what it wrote.
fn forward_option(forward: Forward, dialect: Dialect) -> &'static str {
    match (forward, dialect) {
        (Forward::Masq, _) | (Forward::FullNat, Dialect::Literal) => "-m",
        (Forward::FullNat, Dialect::Own) => "--fullnat",
        (Forward::Tunnel, _) => "-i",
        (Forward::Route | Forward::Local | Forward::Bypass, _) => "-g",
    }
}

/// The options of a tunnel.
fn tunnel_options(text: &mut String, destination: &Destination) {
    if destination.forward != Forward::Tunnel {
        return;
    }
    let checksum = match destination.tunnel.flags {
        tunnel::CSUM => "--tun-csum",
        tunnel::REMCSUM => "--tun-remcsum",
        _ => "--tun-nocsum",
    };
    let form = destination.tunnel.kind.form();
    let _ = write!(text, " --tun-type {}", form.name);
    if form.has_port() {
        let _ = write!(text, " --tun-port {}", destination.tunnel.port);
    }
    if form.flags != 0 {
        let _ = write!(text, " {checksum}");
    }
}
