//! Listings for programs: JSON with names that stay and numbers that are whole, as docs/reference/json.md has them.

use std::net::IpAddr;

use lvs_common::abi::{Forward, tunnel};
use serde::{Serialize, Serializer};

use super::access::AccessLists;
use crate::grammar::flags::flags;
use lvs_director::director::Wanted;
use lvs_director::rules::{
    AccessEntry, AccessKind, Connection, Daemon, Destination, DestinationEntry, LocalEntry, Mark, Netmask,
    PersistenceEngine, Prefix, Protocol, Rates, Service, ServiceEntry, ServiceKey, Statistics, Timeouts as Seconds,
    flags_of, scheduler_name,
};

/// An address and a port.
#[derive(Serialize)]
struct Endpoint {
    address: IpAddr,
    port: u16,
}

/// A pool of local addresses; that of no service is the default one.
#[derive(Serialize)]
struct PoolObject {
    service: Option<Key>,
    addresses: Vec<LocalObject>,
}

#[derive(Serialize)]
struct LocalObject {
    address: IpAddr,
    connections: u32,
    conflicts: u64,
}

/// What a service is found by.
#[derive(Serialize)]
#[serde(untagged)]
enum Key {
    Address { protocol: &'static str, address: IpAddr, port: u16 },
    Mark { mark: u32, family: &'static str },
}

#[derive(Serialize)]
struct ServiceObject<'a> {
    #[serde(flatten)]
    key: Key,
    scheduler: &'static str,
    scheduler_flags: Vec<&'static str>,
    one_packet: bool,
    persistence: Option<Persistence>,
    persistence_engine: Option<&'static str>,
    #[serde(flatten)]
    own: Declared<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    statistics: Option<Counts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rates: Option<Counts>,
    destinations: Vec<DestinationObject>,
}

/// The members that flags declare.
struct Declared<'a>(&'a Service);

impl Serialize for Declared<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(flags().filter_map(|flag| flag.json).map(|member| (member.key, (member.value)(self.0))))
    }
}

#[derive(Serialize)]
struct Persistence {
    timeout: u32,
    #[serde(flatten)]
    granularity: Granularity,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Granularity {
    Netmask(IpAddr),
    PrefixLength(u8),
}

#[derive(Serialize)]
struct DestinationObject {
    address: IpAddr,
    port: u16,
    forward: &'static str,
    tunnel: Option<TunnelObject>,
    weight: u32,
    upper_threshold: u32,
    lower_threshold: u32,
    active_connections: u32,
    inactive_connections: u32,
    persistent_connections: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    statistics: Option<Counts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rates: Option<Counts>,
}

#[derive(Serialize)]
struct TunnelObject {
    r#type: &'static str,
    port: Option<u16>,
    checksum: &'static str,
}

/// Counters, or what is estimated of them for a second.
#[derive(Serialize)]
pub struct Counts {
    connections: u64,
    in_packets: u64,
    out_packets: u64,
    in_bytes: u64,
    out_bytes: u64,
}

#[derive(Serialize)]
struct ConnectionObject {
    protocol: Option<&'static str>,
    state: &'static str,
    expires: u32,
    client: Endpoint,
    #[serde(flatten)]
    virt: Virtual,
    destination: Endpoint,
    local: Option<Endpoint>,
    persistence_engine: Option<EngineObject>,
}

/// The virtual end of a connection, or the firewall mark of a template.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Virtual {
    Virtual(Endpoint),
    Mark(u32),
}

#[derive(Serialize)]
struct EngineObject {
    name: &'static str,
    data: String,
}

#[derive(Serialize)]
struct TimeoutsObject {
    tcp: u32,
    tcp_fin: u32,
    udp: u32,
}

#[derive(Serialize)]
struct MarkObject {
    mark: u32,
    family: &'static str,
    protocol: Option<&'static str>,
    to: PrefixObject,
    from: PrefixObject,
    first_port: u16,
    last_port: u16,
}

/// A list of clients; that of no service is for all.
#[derive(Serialize)]
struct AccessObject {
    list: &'static str,
    service: Option<Key>,
    clients: Vec<ClientObject>,
}

#[derive(Serialize)]
struct ClientObject {
    #[serde(flatten)]
    prefix: PrefixObject,
    seconds_left: Option<u32>,
    packets: u64,
}

#[derive(Serialize)]
struct PrefixObject {
    address: IpAddr,
    prefix_length: u8,
}

/// One line of JSON.
pub fn line(value: &impl Serialize) -> String {
    // Structures of numbers, strings and lists, with keys that are strings, can always be written.
    let mut text = serde_json::to_string(value).unwrap_or_default();
    text.push('\n');
    text
}

/// Services with their destinations. Statistics and rates are there if they were wanted.
pub fn services<'a>(entries: impl IntoIterator<Item = &'a ServiceEntry>, wanted: Wanted) -> String {
    line(&entries.into_iter().map(|entry| service(entry, wanted)).collect::<Vec<_>>())
}

/// `--timeout`
pub fn timeouts(timeouts: &Seconds) -> String {
    line(&seconds(timeouts))
}

fn seconds(timeouts: &Seconds) -> TimeoutsObject {
    TimeoutsObject { tcp: timeouts.tcp, tcp_fin: timeouts.tcp_fin, udp: timeouts.udp }
}

/// Lists of clients, those that have any.
pub fn access(kind: AccessKind, lists: &AccessLists) -> String {
    let client = |entry: &AccessEntry| ClientObject {
        prefix: prefix(entry.rule.prefix),
        seconds_left: entry.rule.seconds,
        packets: entry.packets,
    };
    let list = |(service, entries): &(Option<ServiceKey>, Vec<AccessEntry>)| AccessObject {
        list: kind.name(),
        service: service.map(key),
        clients: entries.iter().map(client).collect(),
    };
    line(&lists.iter().filter(|(_, entries)| !entries.is_empty()).map(list).collect::<Vec<_>>())
}

fn prefix(prefix: Prefix) -> PrefixObject {
    PrefixObject { address: prefix.address, prefix_length: prefix.length }
}

/// Classification rules.
pub fn marks(marks: &[Mark]) -> String {
    let object = |mark: &Mark| MarkObject {
        mark: mark.mark,
        family: mark.traffic.family().name(),
        protocol: mark.traffic.protocol.map(Protocol::name),
        to: prefix(mark.traffic.to),
        from: prefix(mark.traffic.from),
        first_port: mark.traffic.ports.0,
        last_port: mark.traffic.ports.1,
    };
    line(&marks.iter().map(object).collect::<Vec<_>>())
}

/// `--get-laddr`
pub fn locals(pools: &[(Option<ServiceKey>, Vec<LocalEntry>)]) -> String {
    let local = |local: &LocalEntry| LocalObject {
        address: local.address,
        connections: local.connections,
        conflicts: local.conflicts,
    };
    let pool = |(service, addresses): &(Option<ServiceKey>, Vec<LocalEntry>)| PoolObject {
        service: service.map(key),
        addresses: addresses.iter().map(local).collect(),
    };
    line(&pools.iter().map(pool).collect::<Vec<_>>())
}

/// `--daemon`
pub fn daemons(daemons: &[Daemon]) -> String {
    line(&daemons.iter().map(DaemonObject::of).collect::<Vec<_>>())
}

/// A daemon of connection synchronisation.
#[derive(Serialize)]
pub struct DaemonObject {
    state: &'static str,
    interface: String,
    syncid: u8,
    maxlen: u16,
    group: IpAddr,
    port: u16,
    ttl: u8,
    unicast: bool,
    peers: Vec<IpAddr>,
    sealed: bool,
}

impl DaemonObject {
    /// Of a daemon.
    pub fn of(daemon: &Daemon) -> Self {
        let (unicast, peers, sealed) = (daemon.has_peer(), daemon.peers(), daemon.key.is_some());
        let Daemon { role, interface, syncid, maxlen, group, port, ttl, .. } = daemon.clone();
        DaemonObject { state: role.name(), interface, syncid, maxlen, group, port, ttl, unicast, peers, sealed }
    }
}

/// Rows of the connection table, of which there may be a million.
#[derive(Debug, Default)]
pub struct Rows {
    text: String,
}

impl Rows {
    /// Appends one.
    pub fn push(&mut self, row: &Connection) {
        self.text.push(if self.text.is_empty() { '[' } else { ',' });
        self.text.push_str(line(&connection(row)).trim_end());
    }

    /// The list.
    pub fn finish(mut self) -> String {
        self.text.push_str(if self.text.is_empty() { "[]\n" } else { "]\n" });
        self.text
    }
}

fn key(key: ServiceKey) -> Key {
    match key {
        ServiceKey::Address { protocol, address, port } => Key::Address { protocol: protocol.name(), address, port },
        ServiceKey::Fwmark { mark, family } => Key::Mark { mark, family: family.name() },
    }
}

fn service(entry: &ServiceEntry, wanted: Wanted) -> ServiceObject<'_> {
    let Service { key, scheduler, flags, timeout, netmask, engine, .. } = entry.service;
    ServiceObject {
        key: self::key(key),
        scheduler: scheduler_name(scheduler),
        scheduler_flags: flags_of(scheduler, flags),
        one_packet: entry.service.is_one_packet(),
        persistence: entry.service.is_persistent().then_some(Persistence {
            timeout,
            granularity: match netmask {
                Netmask::V4(mask) => Granularity::Netmask(mask.into()),
                Netmask::V6(length) => Granularity::PrefixLength(length),
            },
        }),
        persistence_engine: engine.map(PersistenceEngine::name),
        own: Declared(&entry.service),
        statistics: wanted.statistics.then(|| Counts::of(&entry.statistics)),
        rates: wanted.rates.then(|| rates(&entry.rates)),
        destinations: entry.destinations.iter().map(|listed| destination(listed, wanted)).collect(),
    }
}

fn destination(entry: &DestinationEntry, wanted: Wanted) -> DestinationObject {
    let Destination { key, forward, weight, upper, lower, .. } = entry.destination;
    DestinationObject {
        address: key.address,
        port: key.port,
        forward: match forward {
            Forward::Masq => "masquerade",
            Forward::Local => "local",
            Forward::Tunnel => "tunnel",
            Forward::Route => "route",
            Forward::Bypass => "bypass",
            Forward::FullNat => "fullnat",
        },
        tunnel: (forward == Forward::Tunnel).then(|| tunnel_of(&entry.destination)),
        weight,
        upper_threshold: upper,
        lower_threshold: lower,
        active_connections: entry.active,
        inactive_connections: entry.inactive,
        persistent_connections: entry.persistent,
        statistics: wanted.statistics.then(|| Counts::of(&entry.statistics)),
        rates: wanted.rates.then(|| rates(&entry.rates)),
    }
}

fn tunnel_of(destination: &Destination) -> TunnelObject {
    let form = destination.tunnel.kind.form();
    TunnelObject {
        r#type: form.name,
        port: form.has_port().then_some(destination.tunnel.port),
        checksum: match destination.tunnel.flags {
            tunnel::CSUM => "full",
            tunnel::REMCSUM => "remote",
            _ => "none",
        },
    }
}

impl Counts {
    /// Counters.
    pub fn of(counted: &Statistics) -> Self {
        let Statistics { conns: connections, in_packets, out_packets, in_bytes, out_bytes } = *counted;
        Counts { connections, in_packets, out_packets, in_bytes, out_bytes }
    }
}

fn rates(rates: &Rates) -> Counts {
    let Rates { conns: connections, in_packets, out_packets, in_bytes, out_bytes } = *rates;
    Counts { connections, in_packets, out_packets, in_bytes, out_bytes }
}

fn connection(row: &Connection) -> ConnectionObject {
    let endpoint = |(address, port)| Endpoint { address, port };
    ConnectionObject {
        protocol: row.protocol.map(Protocol::name),
        state: row.state,
        expires: row.expires,
        client: endpoint(row.client),
        virt: match (row.protocol, row.virt.0) {
            // Its last four bytes are the mark.
            (None, IpAddr::V4(mark)) => Virtual::Mark(u32::from(mark)),
            (None, IpAddr::V6(mark)) => Virtual::Mark(u128::from(mark) as u32),
            (Some(_), _) => Virtual::Virtual(endpoint(row.virt)),
        },
        destination: endpoint(row.real),
        local: row.local.map(endpoint),
        persistence_engine: row
            .engine
            .as_ref()
            .map(|(engine, data)| EngineObject { name: engine.name(), data: data.clone() }),
    }
}
