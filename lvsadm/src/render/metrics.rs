//! Metrics in Prometheus's text format, for node_exporter's textfile collector and the agent's HTTP endpoint, or in that of
//! OpenMetrics.
//!
//! What node_exporter's own collector tells of IPVS has its names, labels and help: it refuses a metric whose help is
//! another one than it knows.

use std::fmt::{self, Display, Formatter, Write};

use lvs_common::abi::Sync;
use lvs_director::dataplane::observe::Observation;
use lvs_director::dataplane::{Advertisement, Defence};
use lvs_director::rules::{
    AccessKind, Daemon, DestinationEntry, DestinationKey, Family, Role, ServiceEntry, ServiceKey, Statistics,
};

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

/// A text while it is written, piece by piece: no more of it is kept than `out` keeps.
struct Text<'a> {
    out: &'a mut dyn Write,
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
    /// Who observes packets.
    pub observed: Option<Observation>,
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

/// Of whoever observes packets.
const OBSERVERS: [Metric; 2] = [
    ("lvs_observers", "Processes that observe packets: trace, capture or explain."),
    ("lvs_observer_lost_packets", "Packets that the process which observes was not told of for want of room."),
];

/// Writes the text.
pub fn metrics(metrics: Metrics<'_>, format: Format, out: &mut dyn Write) -> fmt::Result {
    let Metrics { services, total, exits, defence, lists, fragments, sync, daemons, advertised, observed } = metrics;
    let text = &mut Text { out, format };
    write(text, &TOTAL, || [("", counts(&total))])?;
    let twins = Twins::of(services);
    let backends = || services.iter().flat_map(|entry| twins.backends(entry));
    write(text, &BACKEND, backends)?;
    let counted = || services.iter().map(|entry| (Service(&entry.service.key), counts(&entry.statistics)));
    write(text, &SERVICE, counted)?;
    let rates = || {
        services.iter().map(|entry| {
            let r = &entry.rates;
            (Service(&entry.service.key), [r.conns, r.in_packets, r.out_packets, r.in_bytes, r.out_bytes])
        })
    };
    write(text, &RATE, rates)?;
    write(text, &EXIT, || exits.iter().map(|(exit, packets)| (format!("{{exit=\"{exit}\"}}"), [*packets])))?;
    write(text, &TABLE, || {
        let family = |family: Family| format!("{{family=\"{}\"}}", family.name());
        defence.held.map(|(of, held)| (family(of), [held.into(), defence.room.into()]))
    })?;
    write(text, &LIST, || {
        lists.iter().map(|(kind, family, clients)| {
            (format!("{{list=\"{}\",family=\"{}\"}}", kind.name(), family.name()), [*clients as u64])
        })
    })?;
    write(text, &FRAGMENTS, || [("", [fragments.0.into(), fragments.1.into()])])?;
    let evicted = || evictions(exits.iter().copied()).map(|(kind, count)| (format!("{{kind=\"{kind}\"}}"), [count]));
    write(text, &EVICTIONS, evicted)?;
    let refused = exits.iter().filter(|(exit, _)| *exit == REFUSED).map(|(_, packets)| packets).sum();
    write(text, &REFUSALS, || [("", [refused])])?;
    write(text, &STRATEGY, || {
        defence
            .modes
            .map(|(name, mode)| (format!("{{strategy=\"{name}\"}}"), [matches!(mode, "working" | "always").into()]))
    })?;
    write_sync(text, sync, daemons)?;
    write(text, &DEFENCE, || [("", [defence.drop_rate.into(), defence.taken_out.into()])])?;
    write(text, &FLEET, || {
        advertised.iter().map(|advertised| {
            let Advertisement { addresses, missing, drained, .. } = advertised;
            ("", [addresses.len() as u64, missing.len() as u64, (*drained).into()])
        })
    })?;
    let lost = observed.map_or(0, |observed| observed.lost);
    write(text, &OBSERVERS, || [("", [observed.is_some().into(), lost])])?;
    if format == Format::OpenMetrics {
        text.out.write_str("# EOF\n")?;
    }
    Ok(())
}

/// Writes what the daemons of connection synchronisation have done.
fn write_sync(text: &mut Text<'_>, sync: &Sync, daemons: &[Daemon]) -> fmt::Result {
    write(text, &SYNC, || {
        Role::ALL.map(|role| {
            let runs = daemons.iter().any(|daemon| daemon.role == role);
            (format!("{{state=\"{}\"}}", role.name()), [runs.into()])
        })
    })?;
    write(text, &UNSENT, || [("", [sync.lost, sync.waiting])])?;
    for (_, name, meaning, value) in sync.counters.rows() {
        write(text, &[(name, meaning)], || [("", [value])])?;
    }
    Ok(())
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

/// Services by mark. Those of both families have the same labels, so what a real server has of both is added up.
struct Twins<'a>(Vec<&'a ServiceEntry>);

impl<'a> Twins<'a> {
    fn of(services: &'a [ServiceEntry]) -> Self {
        let is_by_mark = |entry: &&ServiceEntry| matches!(entry.service.key, ServiceKey::Fwmark { .. });
        Twins(services.iter().filter(is_by_mark).collect())
    }

    /// The service by the same mark, of the other family.
    fn twin(&self, entry: &ServiceEntry) -> Option<&'a ServiceEntry> {
        let ServiceKey::Fwmark { mark, family } = entry.service.key else { return None };
        let is_twin = |key: &ServiceKey| matches!(key, ServiceKey::Fwmark { mark: its, family: other } if *its == mark && *other != family);
        self.0.iter().copied().find(|it| is_twin(&it.service.key))
    }

    /// What is told of a service's destinations, but of those that the twin of IPv4 tells of.
    fn backends(&self, entry: &'a ServiceEntry) -> impl Iterator<Item = (Backend<'a>, [u64; 3])> {
        let twin = self.twin(entry);
        let is_first = entry.service.key.family() == Family::V4;
        let shared = move |key: &DestinationKey| twin.and_then(|twin| find(twin, key));
        entry.destinations.iter().filter_map(move |listed| {
            let other = shared(&listed.destination.key);
            let values = gauges(listed);
            let values = match other {
                Some(_) if !is_first => return None,
                Some(other) => std::array::from_fn(|at| values[at] + gauges(other)[at]),
                None => values,
            };
            Some((Backend(&entry.service.key, listed.destination.key), values))
        })
    }
}

fn find<'a>(entry: &'a ServiceEntry, key: &DestinationKey) -> Option<&'a DestinationEntry> {
    entry.destinations.iter().find(|listed| listed.destination.key == *key)
}

/// In the order of [`BACKEND`].
fn gauges(listed: &DestinationEntry) -> [u64; 3] {
    [listed.active, listed.inactive, listed.destination.weight].map(u64::from)
}

/// Writes metrics, each with all its samples: labels in their braces, if there are any, and a value for each of the metrics. `samples` gives them anew for each.
fn write<const N: usize, L: Display, I: IntoIterator<Item = (L, [u64; N])>>(
    text: &mut Text<'_>,
    metrics: &[Metric; N],
    samples: impl Fn() -> I,
) -> fmt::Result {
    for (at, (name, help)) in metrics.iter().enumerate() {
        let (counted, kind) = name.strip_suffix("_total").map_or((*name, "gauge"), |counted| (counted, "counter"));
        let family = if text.format == Format::OpenMetrics { counted } else { name };
        write!(text.out, "# HELP {family} {help}\n# TYPE {family} {kind}\n")?;
        for (labels, values) in samples() {
            writeln!(text.out, "{name}{labels} {}", values[at])?;
        }
    }
    Ok(())
}

/// The labels of a service and its family.
struct Service<'a>(&'a ServiceKey);

impl Display for Service<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_char('{')?;
        service_labels(self.0, f)?;
        write!(f, ",family=\"{}\"}}", self.0.family().name())
    }
}

/// The labels of a real server of a service.
struct Backend<'a>(&'a ServiceKey, DestinationKey);

impl Display for Backend<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_char('{')?;
        service_labels(self.0, f)?;
        write!(f, ",remote_address=\"{}\",remote_port=\"{}\"}}", self.1.address, self.1.port)
    }
}

/// The labels of a service. No value needs quoting: they are addresses, numbers and words.
fn service_labels(key: &ServiceKey, f: &mut Formatter<'_>) -> fmt::Result {
    match key {
        ServiceKey::Address { protocol, address, port } => write!(
            f,
            "local_address=\"{address}\",local_port=\"{port}\",proto=\"{}\",local_mark=\"\"",
            protocol.title()
        ),
        // As /proc/net/ip_vs writes a mark.
        ServiceKey::Fwmark { mark, .. } => {
            write!(f, "local_address=\"\",local_port=\"0\",proto=\"FWM\",local_mark=\"{mark:08X}\"")
        }
    }
}
