//! `-S`

use std::fmt::Write;

use lvs_common::abi::{Forward, tunnel};

use super::label::Labels;
use crate::grammar::Dialect;
use crate::rules::{Destination, Family, Protocol, Service, ServiceEntry, ServiceKey, flag_names, scheduler_name};

/// Appends the commands that make a service and its destinations.
pub fn save(text: &mut String, labels: &mut Labels<'_>, entry: &ServiceEntry) {
    let key = service_option(labels, &entry.service.key);
    let _ = write!(text, "-A {key}");
    service(text, &entry.service);
    for listed in &entry.destinations {
        let destination = &listed.destination;
        let name = labels.endpoint(destination.key.address, destination.key.port, entry.service.key.protocol());
        let forward = forward_option(destination.forward, labels.dialect());
        let _ = write!(text, "-a {key} -r {name} {forward} -w {}", destination.weight);
        tunnel_options(text, destination);
        text.push('\n');
    }
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

/// The rest of a service's line.
fn service(text: &mut String, service: &Service) {
    let _ = write!(text, " -s {}", scheduler_name(service.scheduler));
    if service.is_persistent() {
        let _ = write!(text, " -p {}", service.timeout);
        if !service.netmask.is_full() {
            let _ = write!(text, " -M {}", service.netmask);
        }
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
    text.push('\n');
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
    let port = destination.tunnel.port;
    let _ = match destination.tunnel.kind {
        tunnel::GUE => write!(text, " --tun-type gue --tun-port {port} {checksum}"),
        tunnel::GRE => write!(text, " --tun-type gre {checksum}"),
        tunnel::VXLAN => write!(text, " --tun-type vxlan --tun-port {port} {checksum}"),
        _ => write!(text, " --tun-type ipip"),
    };
}
