//! Metrics in Prometheus's text format, for node_exporter's textfile collector and the agent's HTTP endpoint, or in that of
//! OpenMetrics.
//!
//! What node_exporter's own collector tells of IPVS has its names, labels and help: it refuses a metric whose help is
//! another one than it knows.

use std::collections::HashMap;
use std::fmt::Write;

use lvs_common::abi::Sync;
use lvs_director::dataplane::{Advertisement, Defence};
use lvs_director::rules::{AccessKind, Daemon, Family, Role, ServiceEntry, ServiceKey, Statistics};

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus's text format, 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.0: a counter's family has its name without `_total`, and a last line ends the text.
    OpenMetrics,
}

impl Format {
    /// Its media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A text while it is written.
struct Text {
    text: String,
    format: Format,
}

/// Everything that is told.
#[derive(Clone, Copy, Debug)]
pub struct Metrics<'a> {
    /// The services, with statistics and rates.
    pub services: &'a [ServiceEntry],
    /// What was counted altogether, which never goes back.
    pub total: Statistics,
    /// Each way out of the data plane, and how many packets took it.
    pub exits: &'a [(&'static str, u64)],
    /// How full the connection tables are, and what is done about it.
    pub defence: &'a Defence,
    /// How many clients of each family are on the lists of each kind.
    pub lists: &'a [(AccessKind, Family, usize)],
    /// How many cells hold fragments that wait, and how many there are.
    pub fragments: (u32, u32),
    /// What the daemons of connection synchronisation have done.
    pub sync: &'a Sync,
    /// Those that run.
    pub daemons: &'a [Daemon],
    /// What routing daemons are to announce, where they are.
    pub advertised: Option<&'a Advertisement>,
}

/// A metric: its name and its help.
type Metric = (&'static str, &'static str);

/// Of everything that was counted.
const TOTAL: [Metric; 5] = [
    ("node_ipvs_connections_total", "The total number of connections made."),
    ("node_ipvs_incoming_packets_total", "The total number of incoming packets."),
    ("node_ipvs_outgoing_packets_total", "The total number of outgoing packets."),
    ("node_ipvs_incoming_bytes_total", "The total amount of incoming data."),
    ("node_ipvs_outgoing_bytes_total", "The total amount of outgoing data."),
];

/// Of each destination of each service.
const BACKEND: [Metric; 3] = [
    ("node_ipvs_backend_connections_active", "The current active connections by local and remote address."),
    ("node_ipvs_backend_connections_inactive", "The current inactive connections by local and remote address."),
    ("node_ipvs_backend_weight", "The current backend weight by local and remote address."),
];

/// Of each service.
const SERVICE: [Metric; 5] = [
    ("lvs_service_connections_total", "Connections scheduled."),
    ("lvs_service_incoming_packets_total", "Packets from clients."),
    ("lvs_service_outgoing_packets_total", "Packets from real servers that passed the director."),
    ("lvs_service_incoming_bytes_total", "Bytes of IP packets from clients."),
    ("lvs_service_outgoing_bytes_total", "Bytes of IP packets from real servers that passed the director."),
];

/// Of each service, as IPVS estimates it every two seconds.
const RATE: [Metric; 5] = [
    ("lvs_service_connections_per_second", "Connections scheduled a second, estimated."),
    ("lvs_service_incoming_packets_per_second", "Packets from clients a second, estimated."),
    (
        "lvs_service_outgoing_packets_per_second",
        "Packets from real servers that passed the director a second, estimated.",
    ),
    ("lvs_service_incoming_bytes_per_second", "Bytes from clients a second, estimated."),
    ("lvs_service_outgoing_bytes_per_second", "Bytes from real servers that passed the director a second, estimated."),
];

/// Of each way out.
const EXIT: [Metric; 1] = [("lvs_exit_packets_total", "Packets by the way they left the data plane.")];

/// Of each family's connection table.
const TABLE: [Metric; 2] = [
    ("lvs_table_connections", "Connections and templates in the table."),
    ("lvs_table_room", "Connections there is room for in the table."),
];

/// Of the lists of each kind, for each family.
const LIST: [Metric; 1] = [("lvs_list_clients", "Entries of the lists of blocked or allowed clients.")];

/// Of fragments that wait for others.
const FRAGMENTS: [Metric; 2] = [
    ("lvs_fragment_cells_waiting", "Cells with fragments that wait for others of their packet."),
    ("lvs_fragment_cells", "Cells for fragments that wait."),
];
/// Of each kind of entry that gives way in a full table.
const EVICTIONS: [Metric; 1] =
    [("lvs_table_evictions_total", "Connections and templates that gave way to new ones in a full table.")];

/// Of all tables.
const REFUSALS: [Metric; 1] =
    [("lvs_table_refusals_total", "New connections refused, as nothing in a full table gave way.")];

/// Of each strategy against full tables.
const STRATEGY: [Metric; 1] = [("lvs_defence_working", "Whether a strategy against full tables is at work.")];

/// Of all of them.
const DEFENCE: [Metric; 2] = [
    ("lvs_defence_drop_rate", "Of so many new connections one is dropped; 0 is none."),
    ("lvs_defence_entries_dropped_total", "Connections and templates that drop_entry took out."),
];

/// Of each daemon of connection synchronisation.
const SYNC: [Metric; 1] = [("lvs_sync_running", "Whether a daemon of connection synchronisation runs.")];

/// Of what is on its way.
const UNSENT: [Metric; 2] = [
    ("lvs_sync_lost_total", "Connections and templates that a master was not told of for want of room."),
    ("lvs_sync_waiting", "Connections and templates that wait for their real server to be configured."),
];

/// Of a director whose addresses are advertised.
const FLEET: [Metric; 3] = [
    ("lvs_advertised_addresses", "Virtual addresses that a routing daemon is to announce."),
    (
        "lvs_unadvertised_addresses",
        "Virtual addresses that could be served here and that no routing daemon is to announce.",
    ),
    ("lvs_director_drained", "Whether this director was taken out of its fleet."),
];

/// The text.
pub fn metrics(metrics: Metrics<'_>, format: Format) -> String {
    let Metrics { services, total, exits, defence, lists, fragments, sync, daemons, advertised } = metrics;
    let mut text = Text { text: String::new(), format };
    write(&mut text, &TOTAL, &[(String::new(), counts(&total))]);
    let backends = services.iter().flat_map(|entry| {
        let local = service_labels(&entry.service.key);
        entry.destinations.iter().map(move |listed| {
            let remote = listed.destination.key;
            let labels = format!("{local},remote_address=\"{}\",remote_port=\"{}\"", remote.address, remote.port);
            (labels, [listed.active, listed.inactive, listed.destination.weight].map(u64::from))
        })
    });
    write(&mut text, &BACKEND, &summed(backends));
    let labels = |key: &ServiceKey| format!("{},family=\"{}\"", service_labels(key), key.family().name());
    let counted = services.iter().map(|entry| (labels(&entry.service.key), counts(&entry.statistics)));
    write(&mut text, &SERVICE, &counted.collect::<Vec<_>>());
    let rates = services.iter().map(|entry| {
        let r = &entry.rates;
        (labels(&entry.service.key), [r.conns, r.in_packets, r.out_packets, r.in_bytes, r.out_bytes])
    });
    write(&mut text, &RATE, &rates.collect::<Vec<_>>());
    let evicted = evictions(exits.iter().copied()).map(|(kind, count)| (format!("kind=\"{kind}\""), [count]));
    let evicted: Vec<_> = evicted.collect();
    let refused = exits.iter().filter(|(exit, _)| *exit == REFUSED).map(|(_, packets)| packets).sum();
    let exits = exits.iter().map(|(exit, packets)| (format!("exit=\"{exit}\""), [*packets]));
    write(&mut text, &EXIT, &exits.collect::<Vec<_>>());
    let tables = defence
        .held
        .map(|(family, held)| (format!("family=\"{}\"", family.name()), [held.into(), defence.room.into()]));
    write(&mut text, &TABLE, &tables);
    let lists = lists.iter().map(|(kind, family, clients)| {
        (format!("list=\"{}\",family=\"{}\"", kind.name(), family.name()), [*clients as u64])
    });
    write(&mut text, &LIST, &lists.collect::<Vec<_>>());
    write(&mut text, &FRAGMENTS, &[(String::new(), [fragments.0.into(), fragments.1.into()])]);
    write(&mut text, &EVICTIONS, &evicted);
    write(&mut text, &REFUSALS, &[(String::new(), [refused])]);
    let modes = defence
        .modes
        .map(|(name, mode)| (format!("strategy=\"{name}\""), [matches!(mode, "working" | "always").into()]));
    write(&mut text, &STRATEGY, &modes);
    write_sync(&mut text, sync, daemons);
    write(&mut text, &DEFENCE, &[(String::new(), [defence.drop_rate.into(), defence.taken_out.into()])]);
    let fleet = advertised.iter().map(|advertised| {
        let Advertisement { addresses, missing, drained, .. } = advertised;
        (String::new(), [addresses.len() as u64, missing.len() as u64, (*drained).into()])
    });
    write(&mut text, &FLEET, &fleet.collect::<Vec<_>>());
    if format == Format::OpenMetrics {
        text.text.push_str("# EOF\n");
    }
    text.text
}

/// Appends what the daemons of connection synchronisation have done.
fn write_sync(text: &mut Text, sync: &Sync, daemons: &[Daemon]) {
    let running = Role::ALL.map(|role| {
        let runs = daemons.iter().any(|daemon| daemon.role == role);
        (format!("state=\"{}\"", role.name()), [runs.into()])
    });
    write(text, &SYNC, &running);
    write(text, &UNSENT, &[(String::new(), [sync.lost, sync.waiting])]);
    for (_, name, meaning, value) in sync.counters.rows() {
        write(text, &[(name, meaning)], &[(String::new(), [value])]);
    }
}

/// The exit of new connections that find no room in a full table.
pub const REFUSED: &str = "drop-table-full";

/// What gave way in full tables, by kind, of the counts of exits.
pub fn evictions(exits: impl Iterator<Item = (&'static str, u64)>) -> impl Iterator<Item = (&'static str, u64)> {
    exits.filter_map(|(exit, count)| Some((exit.strip_prefix("evicted-")?, count)))
}

/// In the order of [`TOTAL`] and [`SERVICE`].
fn counts(c: &Statistics) -> [u64; 5] {
    [c.conns, c.in_packets, c.out_packets, c.in_bytes, c.out_bytes]
}

/// Adds up where labels are the same, which may occur once: of a mark's services of both families that share a server.
fn summed<const N: usize>(samples: impl Iterator<Item = (String, [u64; N])>) -> Vec<(String, [u64; N])> {
    let (mut places, mut sums) = (HashMap::new(), Vec::<(String, [u64; N])>::new());
    for (labels, values) in samples {
        match places.get(&labels) {
            Some(place) => {
                let (_, sum): &mut (_, [u64; N]) = &mut sums[*place];
                sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            }
            None => {
                places.insert(labels.clone(), sums.len());
                sums.push((labels, values));
            }
        }
    }
    sums
}

/// Appends metrics, each with all its samples: labels, and a value for each of the metrics.
fn write<const N: usize>(text: &mut Text, metrics: &[Metric; N], samples: &[(String, [u64; N])]) {
    let Text { text, format } = text;
    for (at, (name, help)) in metrics.iter().enumerate() {
        let (counted, kind) = name.strip_suffix("_total").map_or((*name, "gauge"), |counted| (counted, "counter"));
        let family = if *format == Format::OpenMetrics { counted } else { name };
        let _ = write!(text, "# HELP {family} {help}\n# TYPE {family} {kind}\n");
        for (labels, values) in samples {
            let _ = match labels.as_str() {
                "" => writeln!(text, "{name} {}", values[at]),
                labels => writeln!(text, "{name}{{{labels}}} {}", values[at]),
            };
        }
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
