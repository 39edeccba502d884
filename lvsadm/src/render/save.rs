//! `-S`

use std::fmt::Write;
use std::net::IpAddr;

use super::label::Labels;
use crate::grammar::flags::{Form, saved_destination, saved_service};
use lvs_director::rules::{Destination, Family, Protocol, Service, ServiceEntry, ServiceKey};

/// Appends the commands that make a service and its destinations, as `-S` has them.
pub fn save(text: &mut String, labels: &mut Labels<'_>, entry: &ServiceEntry) {
    service(text, labels, &entry.service, Form::Saved);
    for listed in &entry.destinations {
        destination(text, labels, &entry.service.key, &listed.destination, Form::Saved);
    }
}

/// Appends the command that makes a service.
pub fn service(text: &mut String, labels: &mut Labels<'_>, service: &Service, form: Form) {
    text.push_str("-A ");
    text.push_str(&service_option(labels, &service.key));
    saved_service(text, service, form);
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
    let _ = write!(text, "-a {key} -r {name}");
    saved_destination(text, destination, form, labels.dialect());
    text.push('\n');
}

/// Appends the command that adds a local address to a service's, or to the default pool.
pub fn local(text: &mut String, labels: &mut Labels<'_>, service: Option<&ServiceKey>, address: IpAddr) {
    let service = service.map(|key| format!(" {}", service_option(labels, key))).unwrap_or_default();
    let _ = writeln!(text, "--add-laddr{service} -z {address}");
}

/// The option that names a service.
pub fn service_option(labels: &mut Labels<'_>, key: &ServiceKey) -> String {
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
