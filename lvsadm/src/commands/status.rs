//! `status`: where and how the data plane is attached, and what it did with packets.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use serde::Serialize;

use crate::firewall;
use crate::render;
use crate::snapshot;
use lvs_common::fragments::{self, DATAGRAMS};
use lvs_director::dataplane::{self, Advertisement, Birth, Defaults, Defence, PlaneDirector, Watching};
use lvs_director::director::{Access, Director, Wanted};
use lvs_director::rules::{Daemon, ServiceEntry, ServiceKey};
use render::json::Counts;

/// How many advertised addresses are listed one by one.
const ADDRESSES_SHOWN: usize = 8;

#[derive(Serialize)]
struct Status {
    version: String,
    layout: String,
    generation: u32,
    since: u64,
    pins: PathBuf,
    ipsec: usize,
    agent: bool,
    observed_by: Option<u32>,
    observer_lost: u64,
    devices: Vec<Device>,
    packets: Vec<Exit>,
    counted: Counts,
    tables: Tables,
    connections: BTreeMap<&'static str, u32>,
    full_table: FullTable,
    lists: Lists,
    fragments: Fragments,
    defence: Strategies,
    synchronisation: Synchronisation,
    advertised: Option<Advertised>,
    firewall: Vec<firewall::Chain>,
}

#[derive(Serialize)]
struct Device {
    device: String,
    mode: &'static str,
    why: String,
}

#[derive(Serialize)]
struct Exit {
    exit: &'static str,
    packets: u64,
    meaning: &'static str,
}

#[derive(Serialize)]
struct Tables {
    connections: u32,
    services: u32,
    destinations: u32,
    bytes: u64,
}

/// Clients on lists.
#[derive(Serialize)]
struct Lists {
    #[serde(flatten)]
    clients: BTreeMap<&'static str, usize>,
    room: u32,
}

#[derive(Serialize)]
struct Fragments {
    waiting: u32,
    cells: u32,
    datagrams: u32,
    bytes: u32,
}

/// What became of new connections that found no room.
#[derive(Serialize)]
struct FullTable {
    evictions: BTreeMap<&'static str, u64>,
    refused: u64,
}

impl FullTable {
    fn of(packets: &[Exit]) -> Self {
        let counts = || packets.iter().map(|e| (e.exit, e.packets));
        FullTable {
            evictions: render::evictions(counts()).collect(),
            refused: counts().filter(|(exit, _)| *exit == render::REFUSED).map(|(_, packets)| packets).sum(),
        }
    }
}

#[derive(Serialize)]
struct Strategies {
    #[serde(flatten)]
    modes: BTreeMap<&'static str, &'static str>,
    drop_rate: u32,
    entries_dropped: u32,
}

/// The daemons of connection synchronisation that run, and what they have done.
#[derive(Serialize)]
struct Synchronisation {
    daemons: Vec<render::json::DaemonObject>,
    lost: u64,
    waiting: u64,
    #[serde(flatten)]
    counters: BTreeMap<&'static str, u64>,
}

/// The virtual addresses that a routing daemon is to announce.
#[derive(Serialize)]
struct Advertised {
    table: u32,
    drained: bool,
    addresses: BTreeSet<IpAddr>,
    missing: BTreeSet<IpAddr>,
}

impl From<Advertisement> for Advertised {
    fn from(Advertisement { table, drained, addresses, missing }: Advertisement) -> Self {
        Advertised { table, drained, addresses, missing }
    }
}

impl Advertised {
    /// The lines of it.
    fn text(&self) -> String {
        let list = |addresses: &BTreeSet<IpAddr>| match addresses.len() {
            0 => "none".to_owned(),
            count if count > ADDRESSES_SHOWN => format!("{count} addresses"),
            _ => addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" "),
        };
        let Advertised { table, drained, addresses, missing } = self;
        let mut text = format!("advertised in table {table}: {}", list(addresses));
        if *drained {
            text += "; this director is drained: `lvsadm drain --director --undo' has it serve again";
        } else if !missing.is_empty() {
            let _ = write!(text, "; without a route, though served: {}", list(missing));
        }
        text + "\n"
    }
}

/// Shows the status.
pub fn status(json: bool) -> Result<()> {
    let (status, daemons) = read(firewall::chains)?;
    super::output::print(&if json { render::json::line(&status) } else { text(&status, &daemons) })
}

/// The status as `--json` prints it. `chains` tells the chains of the host's firewall that may be meant for these addresses.
pub fn json(chains: impl FnOnce(&HashSet<IpAddr>) -> Vec<firewall::Chain>) -> Result<String> {
    read(chains).map(|(status, _)| render::json::line(&status))
}

/// Reads the status, with the daemons that run.
fn read(chains: impl FnOnce(&HashSet<IpAddr>) -> Vec<firewall::Chain>) -> Result<(Status, Vec<Daemon>)> {
    let Some(plane) = dataplane::open(Access::Read)? else {
        let needed = dataplane::needed(&Defaults::read()?.loading)?;
        bail!(
            "nothing is loaded in this network namespace: `lvsadm attach` or a first rule loads it, with {needed} MiB of tables"
        );
    };
    let devices = dataplane::attachments(&plane)?;
    let left_out = dataplane::left_out(&plane)?;
    let Defence { held, room, modes, drop_rate, taken_out } = Defence::of(&plane);
    let daemons = plane.daemons()?;
    let room_of_lists = plane.list_room()?;
    let birth = Birth::read(&plane.directory.path())?;
    let packets: Vec<Exit> =
        plane.exits()?.into_iter().map(|(exit, meaning, packets)| Exit { exit, packets, meaning }).collect();
    let observed = dataplane::observe::observation(&plane.directory)?;
    let mut status = Status {
        version: birth.version,
        layout: plane.layout()?,
        generation: birth.generation,
        since: birth.since,
        pins: plane.directory.place(),
        ipsec: plane.protected_prefixes()?,
        agent: Watching::is_under_way()?,
        observed_by: observed.map(|observed| observed.process),
        observer_lost: observed.map_or(0, |observed| observed.lost),
        devices: devices
            .into_iter()
            .map(|d| Device { device: d.device, mode: d.attached.name(), why: d.why })
            .chain(left_out.into_iter().map(|d| Device { device: d.device, mode: "none", why: d.why }))
            .collect(),
        full_table: FullTable::of(&packets),
        packets,
        counted: Counts::of(&plane.total_counted()),
        tables: {
            let (_, services, destinations) = plane.sizes();
            Tables { connections: room, services, destinations, bytes: plane.memory()? }
        },
        connections: held.iter().map(|(family, held)| (family.name(), *held)).collect(),
        lists: Lists { clients: BTreeMap::new(), room: room_of_lists },
        fragments: {
            let (waiting, cells) = plane.fragments()?;
            Fragments { waiting, cells, datagrams: DATAGRAMS, bytes: fragments::MEMORY }
        },
        defence: Strategies { modes: modes.into(), drop_rate, entries_dropped: taken_out },
        synchronisation: {
            let sync = plane.sync();
            let counters = sync.counters.rows().map(|(name, _, _, value)| (name, value)).collect();
            let daemons = daemons.iter().map(render::json::DaemonObject::of).collect();
            Synchronisation { daemons, lost: sync.lost, waiting: sync.waiting, counters }
        },
        advertised: plane.advertisement()?.map(Advertised::from),
        firewall: Vec::new(),
    };
    let mut director = PlaneDirector::new(plane);
    for (kind, _, clients) in snapshot::sizes(&director)? {
        *status.lists.clients.entry(kind.name()).or_default() += clients;
    }
    director.unlock();
    let services = director.services(Wanted::default())?;
    drop(director);
    let address = |entry: ServiceEntry| match entry.service.key {
        ServiceKey::Address { address, .. } => Some(address),
        ServiceKey::Fwmark { .. } => None,
    };
    status.firewall = chains(&services.into_iter().filter_map(address).collect());
    status.firewall.retain(firewall::Chain::concerns_services);
    Ok((status, daemons))
}

/// The status for people.
fn text(status: &Status, daemons: &[Daemon]) -> String {
    let mut text = String::new();
    for d in &status.devices {
        let _ = writeln!(text, "{:<16} {:<8} {}", d.device, d.mode, d.why);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let _ = writeln!(
        text,
        "data plane: version {}, layout {}, generation {}, loaded {} seconds ago",
        status.version,
        status.layout,
        status.generation,
        now.saturating_sub(status.since)
    );
    let _ = writeln!(text, "pinned in {}", status.pins.display());
    text += match status.agent {
        true => "agent: it serves devices from the moment they come up\n",
        false => "agent: none runs, devices are served from the first command on after they come up\n",
    };
    if let Some(process) = status.observed_by {
        let _ = writeln!(
            text,
            "observed: by process {process} (trace, capture or explain), which lost {} packets; packets cost more meanwhile",
            status.observer_lost
        );
    }
    if status.ipsec != 0 {
        let _ = writeln!(
            text,
            "IPsec: policies cover {} prefixes; what goes there is left to the network stack",
            status.ipsec
        );
    }
    let t = &status.tables;
    let _ = writeln!(
        text,
        "tables: {} connections of each family, {} services, {} destinations; {} MiB",
        t.connections,
        t.services,
        t.destinations,
        t.bytes.div_ceil(1 << 20)
    );
    let held = status.connections.iter().map(|(family, held)| {
        let percent = u64::from(*held) * 100 / u64::from(t.connections.max(1));
        format!("{held} {family} ({percent} %)")
    });
    let _ = writeln!(text, "connections: {}", held.collect::<Vec<_>>().join(", "));
    let FullTable { evictions, refused } = &status.full_table;
    let evicted = evictions.iter().filter(|(_, count)| **count != 0).map(|(kind, count)| format!("{count} {kind}"));
    let _ = match evicted.collect::<Vec<_>>() {
        none if none.is_empty() && *refused == 0 => writeln!(text, "full table: not met so far"),
        none if none.is_empty() => writeln!(text, "full table: nothing gave way; {refused} new connections refused"),
        kinds => writeln!(text, "full table: {} gave way to new connections; {refused} refused", kinds.join(", ")),
    };
    let Lists { clients, room } = &status.lists;
    if clients.values().any(|count| *count != 0) {
        let counts: Vec<String> = clients.iter().map(|(list, count)| format!("{list} {count}")).collect();
        let _ = writeln!(text, "lists: {}; there is room for {room} clients of each family", counts.join(", "));
    }
    let Fragments { waiting, cells, datagrams, bytes } = status.fragments;
    let _ = writeln!(
        text,
        "fragments: {waiting} of {cells} cells wait for others; {datagrams} packets known at most; {} MiB",
        bytes.div_ceil(1 << 20)
    );
    let Strategies { modes, drop_rate, entries_dropped } = &status.defence;
    let modes: Vec<String> = modes.iter().map(|(name, mode)| format!("{name} {mode}")).collect();
    let _ = writeln!(
        text,
        "defence: {}; {}; {entries_dropped} connections taken out",
        modes.join(", "),
        match drop_rate {
            0 => "no new connection is dropped".to_owned(),
            1 => "every new connection is dropped".to_owned(),
            rate => format!("one new connection in {rate} is dropped"),
        }
    );
    for daemon in daemons {
        let _ = writeln!(text, "{daemon}");
    }
    let Synchronisation { lost, waiting, counters, .. } = &status.synchronisation;
    let counted: Vec<String> = [(&"lost", lost), (&"waiting", waiting)]
        .into_iter()
        .chain(counters)
        .filter(|(_, count)| **count != 0)
        .map(|(name, count)| format!("{} {count}", name.replace('_', " ")))
        .collect();
    if !counted.is_empty() {
        let _ = writeln!(text, "synchronisation: {}", counted.join(", "));
    }
    text += &status.advertised.as_ref().map(Advertised::text).unwrap_or_default();
    text += &firewall::text(&status.firewall);
    for e in status.packets.iter().filter(|e| e.packets != 0) {
        let _ = writeln!(text, "{:>12} {:<20} {}", e.packets, e.exit, e.meaning);
    }
    text
}

/// Has the kernel verify every program, and shows how many instructions it looked at; nothing is attached.
pub fn verifier() -> Result<()> {
    let mut refused = 0;
    for (name, count) in dataplane::verify(Defaults::read()?.loading)? {
        match count {
            Ok(count) => println!("{count:>8} {name}"),
            Err(error) => {
                println!("{:>8} {name}: {}", "-", error.line());
                refused += 1;
            }
        }
    }
    if refused != 0 {
        bail!("{refused} programs are refused");
    }
    Ok(())
}
