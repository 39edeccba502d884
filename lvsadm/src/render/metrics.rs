//! Metrics in Prometheus's text format, for node_exporter's textfile collector.
//!
//! What node_exporter's own collector tells of IPVS has its names, labels and help: it refuses a metric whose help is
//! another one than it knows.

use std::collections::HashMap;
use std::fmt::Write;

use crate::rules::{DestinationEntry, Rates, ServiceEntry, ServiceKey, Statistics};

/// Everything that is told.
#[derive(Clone, Copy, Debug)]
pub struct Metrics<'a> {
    /// The services, with statistics and rates.
    pub services: &'a [ServiceEntry],
    /// What was counted altogether, which never goes back.
    pub total: Statistics,
    /// Each way out of the data plane, and how many packets took it.
    pub exits: &'a [(&'static str, u64)],
}

/// A metric of a structure `T`: its name, its help, and its value.
type Metric<T> = (&'static str, &'static str, fn(&T) -> u64);

/// Of everything that was counted.
const TOTAL: [Metric<Statistics>; 5] = [
    ("node_ipvs_connections_total", "The total number of connections made.", |c| c.conns),
    ("node_ipvs_incoming_packets_total", "The total number of incoming packets.", |c| c.in_packets),
    ("node_ipvs_outgoing_packets_total", "The total number of outgoing packets.", |c| c.out_packets),
    ("node_ipvs_incoming_bytes_total", "The total amount of incoming data.", |c| c.in_bytes),
    ("node_ipvs_outgoing_bytes_total", "The total amount of outgoing data.", |c| c.out_bytes),
];

/// Of each destination of each service.
const BACKEND: [Metric<DestinationEntry>; 3] = [
    ("node_ipvs_backend_connections_active", "The current active connections by local and remote address.", |d| {
        d.active.into()
    }),
    ("node_ipvs_backend_connections_inactive", "The current inactive connections by local and remote address.", |d| {
        d.inactive.into()
    }),
    ("node_ipvs_backend_weight", "The current backend weight by local and remote address.", |d| {
        d.destination.weight.into()
    }),
];

/// Of each service.
const SERVICE: [Metric<Statistics>; 5] = [
    ("lvs_service_connections_total", "Connections scheduled.", |c| c.conns),
    ("lvs_service_incoming_packets_total", "Packets from clients.", |c| c.in_packets),
    ("lvs_service_outgoing_packets_total", "Packets from real servers that passed the director.", |c| c.out_packets),
    ("lvs_service_incoming_bytes_total", "Bytes of IP packets from clients.", |c| c.in_bytes),
    ("lvs_service_outgoing_bytes_total", "Bytes of IP packets from real servers that passed the director.", |c| {
        c.out_bytes
    }),
];

/// Of each service, as IPVS estimates it every two seconds.
const RATE: [Metric<Rates>; 5] = [
    ("lvs_service_connections_per_second", "Connections scheduled a second, estimated.", |r| r.conns),
    ("lvs_service_incoming_packets_per_second", "Packets from clients a second, estimated.", |r| r.in_packets),
    (
        "lvs_service_outgoing_packets_per_second",
        "Packets from real servers that passed the director a second, estimated.",
        |r| r.out_packets,
    ),
    ("lvs_service_incoming_bytes_per_second", "Bytes from clients a second, estimated.", |r| r.in_bytes),
    (
        "lvs_service_outgoing_bytes_per_second",
        "Bytes from real servers that passed the director a second, estimated.",
        |r| r.out_bytes,
    ),
];

/// The text.
pub fn metrics(metrics: Metrics<'_>) -> String {
    let Metrics { services, total, exits } = metrics;
    let mut text = String::new();
    for (name, help, value) in TOTAL {
        family(&mut text, name, help, "counter", [(String::new(), value(&total))]);
    }
    for (name, help, value) in BACKEND {
        let backends = services.iter().flat_map(|entry| entry.destinations.iter().map(move |listed| (entry, listed)));
        let samples = backends.map(|(entry, listed)| {
            let (local, remote) = (service_labels(&entry.service.key), listed.destination.key);
            let remote = format!("remote_address=\"{}\",remote_port=\"{}\"", remote.address, remote.port);
            (format!("{local},{remote}"), value(listed))
        });
        family(&mut text, name, help, "gauge", samples);
    }
    let labels = |key: &ServiceKey| format!("{},family=\"{}\"", service_labels(key), key.family().name());
    for (name, help, value) in SERVICE {
        let samples = services.iter().map(|entry| (labels(&entry.service.key), value(&entry.statistics)));
        family(&mut text, name, help, "counter", samples);
    }
    for (name, help, value) in RATE {
        let samples = services.iter().map(|entry| (labels(&entry.service.key), value(&entry.rates)));
        family(&mut text, name, help, "gauge", samples);
    }
    let exits = exits.iter().map(|(exit, packets)| (format!("exit=\"{exit}\""), *packets));
    family(&mut text, "lvs_exit_packets_total", "Packets by the way they left the data plane.", "counter", exits);
    text
}

/// Appends a metric with all its samples, each labels and a value. Where labels are the same (of a mark's services of both
/// families that share a server), values are added up: a label set may occur once.
fn family(text: &mut String, name: &str, help: &str, kind: &str, samples: impl IntoIterator<Item = (String, u64)>) {
    let (mut places, mut sums) = (HashMap::new(), Vec::<(String, u64)>::new());
    for (labels, value) in samples {
        let place = *places.entry(labels.clone()).or_insert(sums.len());
        match sums.get_mut(place) {
            Some(sum) => sum.1 += value,
            None => sums.push((labels, value)),
        }
    }
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    for (labels, value) in sums {
        let _ = match labels.as_str() {
            "" => writeln!(text, "{name} {value}"),
            labels => writeln!(text, "{name}{{{labels}}} {value}"),
        };
    }
}

/// The labels of a service. No value needs quoting: they are addresses, numbers and words.
fn service_labels(key: &ServiceKey) -> String {
    match key {
        ServiceKey::Address { protocol, address, port } => {
            format!("local_address=\"{address}\",local_port=\"{port}\",proto=\"{}\",local_mark=\"\"", protocol.title())
        }
        // As /proc/net/ip_vs writes a mark.
        ServiceKey::Fwmark { mark, .. } => {
            format!("local_address=\"\",local_port=\"0\",proto=\"FWM\",local_mark=\"{mark:08X}\"")
        }
    }
}
