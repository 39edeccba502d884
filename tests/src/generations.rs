//! A director under load while another generation of its data plane takes over, again and again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::balanced::Tier;
use crate::topology::{Cluster, Datagrams, Layout, Namespace, Offloads, Origin, Server, Session, VIP};
use crate::{eventually, text};
use anyhow::{Context, Result, ensure};

/// The port of each service: NAT, persistence, FullNAT, and UDP.
const NAT: u16 = 80;
const PERSISTENT: u16 = 81;
const FULLNAT: u16 = 82;
const UDP: u16 = 53;

/// How often the data plane is changed under load.
pub const CHANGES: usize = 4;

/// A director that serves by XDP.
pub const NATIVE: Tier = ("native", Offloads::Off);
/// A director that serves by TC.
pub const TC: Tier = ("tc", Offloads::On);

fn at(port: u16) -> SocketAddr {
    SocketAddr::new(VIP, port)
}

/// A director with a service of each kind.
fn cluster((mode, offloads): Tier) -> Result<(Cluster, Vec<Server>)> {
    let cluster = Cluster::new(Layout { servers: 4, offloads, ..Layout::default() })?;
    let director = &cluster.director;
    director.lvsadm(&format!("attach --mode {mode} --conns 200000"))?;
    for line in [
        "-A -t 10.10.10.10:80 -s rr",
        "-A -t 10.10.10.10:81 -s rr -p 600",
        "-A -t 10.10.10.10:82 -s rr",
        "-A -u 10.10.10.10:53 -s rr",
        "--add-laddr -z 192.168.122.100",
    ] {
        director.lvsadm(line)?;
    }
    let mut servers = Vec::new();
    for (number, namespace) in (1..).zip(&cluster.servers) {
        let (address, _) = cluster.server_addresses(number);
        // Two services with NAT share no server: a client may use one port for both, and the server's answers could not be told apart.
        let translated = if number <= 2 { NAT } else { PERSISTENT };
        for (key, port, how) in [("t", translated, "-m"), ("t", FULLNAT, "--fullnat"), ("u", UDP, "-m")] {
            let real = if key == "t" { 80 } else { port };
            director.lvsadm(&format!("-a -{key} {} -r {address}:{real} {how}", at(port)))?;
        }
        servers.push(Server::udp(namespace, address, UDP, &format!("rs{number}"))?);
    }
    Ok((cluster, servers))
}

/// Connections that clients keep, and the server of each.
struct Kept {
    tcp: Vec<(Session, String)>,
    udp: Vec<(Datagrams, String)>,
}

impl Kept {
    fn open(client: &Namespace, each: usize) -> Result<Self> {
        let mut kept = Kept { tcp: Vec::new(), udp: Vec::new() };
        for port in [NAT, PERSISTENT, FULLNAT] {
            for _ in 0..each {
                let mut session = Session::open(client, at(port), Origin::default())?;
                let server = session.ask().with_context(|| format!("port {port}"))?;
                kept.tcp.push((session, server));
            }
        }
        for _ in 0..each {
            let datagrams = Datagrams::open(client, at(UDP), Origin::default())?;
            let server = datagrams.ask()?;
            kept.udp.push((datagrams, server));
        }
        Ok(kept)
    }

    /// Every connection leads to its server.
    fn ask(&mut self) -> Result<()> {
        for (number, (session, server)) in self.tcp.iter_mut().enumerate() {
            let answer = session.ask().with_context(|| format!("session {number}"))?;
            ensure!(answer == *server, "session {number} went from {server} to {answer}");
        }
        for (datagrams, server) in &self.udp {
            ensure!(datagrams.ask()? == *server);
        }
        Ok(())
    }
}

/// Connections that each service has scheduled, by its port.
fn scheduled(director: &Namespace) -> Result<BTreeMap<u64, u64>> {
    let services = director.json("-L --stats --json")?;
    let services = services.as_array().context("no list")?;
    // Services of marks have no port.
    let with_port = services.iter().filter(|service| service["port"].is_u64());
    let entry =
        |service: &serde_json::Value| Some((service["port"].as_u64()?, service["statistics"]["connections"].as_u64()?));
    with_port.map(|service| entry(service).with_context(|| format!("{service}"))).collect()
}

/// Exits by which packets were dropped, and how many, but for those that met a locked bucket: their senders send again.
fn dropped(director: &Namespace) -> Result<BTreeMap<String, u64>> {
    let mut exits = director.exits()?;
    exits.retain(|name, packets| name.starts_with("drop-") && name != "drop-busy" && *packets != 0);
    Ok(exits)
}

/// Counts of connections and what the tables hold agree.
fn counts_agree(director: &Namespace) -> Result<()> {
    let connections = director.connections()?;
    for (service, port, protocol) in [
        ("-t 10.10.10.10:80", NAT, "tcp"),
        ("-t 10.10.10.10:81", PERSISTENT, "tcp"),
        ("-t 10.10.10.10:82", FULLNAT, "tcp"),
        ("-u 10.10.10.10:53", UDP, "udp"),
    ] {
        let counted: u32 = director.destinations(service)?.values().map(|counts| counts.active + counts.inactive).sum();
        let is_its = |c: &&serde_json::Value| {
            c["virtual"]["port"] == port && c["protocol"] == protocol && c["client"]["port"] != 0
        };
        let listed = connections.iter().filter(is_its).count();
        ensure!(counted as usize == listed, "{service}: {counted} counted, {listed} in the table");
    }
    Ok(())
}

/// Loads the director while `change` is made again and again; nothing gets lost.
///
/// # Errors
/// What got lost, or could not be tried.
pub fn nothing_is_lost(tier: Tier, change: impl Fn(&Cluster, usize) -> Result<()> + Sync) -> Result<()> {
    let (cluster, _servers) = cluster(tier)?;
    let mut kept = Kept::open(&cluster.client, 12)?;
    let before = scheduled(&cluster.director)?;
    let is_over = AtomicBool::new(false);
    let client = || cluster.client();
    thread::scope(|scope| -> Result<()> {
        let load = |port| {
            let is_over = &is_over;
            scope.spawn(move || -> Result<usize> {
                let mut answered = 0;
                while !is_over.load(Ordering::Relaxed) {
                    answered += client().load(at(port), 1, Duration::from_millis(500))?;
                }
                Ok(answered)
            })
        };
        let loads = [NAT, PERSISTENT, FULLNAT].map(load);
        let streams = [NAT, FULLNAT].map(|port| {
            let is_over = &is_over;
            scope.spawn(move || -> Result<()> {
                while !is_over.load(Ordering::Relaxed) {
                    let got = client().get(at(port), "/bytes/1000000")?;
                    ensure!(got.as_bytes() == text(1_000_000), "a stream has changed");
                }
                Ok(())
            })
        });
        let datagrams = scope.spawn(|| -> Result<()> {
            while !is_over.load(Ordering::Relaxed) {
                client().datagram(at(UDP), 100).context("a datagram of a new connection")?;
                // UDP's connections stay for five minutes: they are not to fill the table.
                thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        });
        let mut changes = || -> Result<()> {
            for turn in 0..CHANGES {
                change(&cluster, turn).with_context(|| format!("change {turn}"))?;
                kept.ask().with_context(|| format!("after change {turn}"))?;
            }
            Ok(())
        };
        let changed = changes();
        is_over.store(true, Ordering::Relaxed);
        for load in loads {
            ensure!(load.join().unwrap()? > 0);
        }
        for stream in streams {
            stream.join().unwrap()?;
        }
        datagrams.join().unwrap()?;
        changed
    })
    .with_context(|| format!("dropped: {:?}", dropped(&cluster.director)))?;
    ensure!(dropped(&cluster.director)?.is_empty(), "{:?}", dropped(&cluster.director));
    kept.ask()?;
    let after = scheduled(&cluster.director)?;
    for (port, count) in &after {
        let before = before.get(port).copied();
        ensure!(
            before.is_none_or(|before| *count > before),
            "port {port}: {count} connections counted, {before:?} before"
        );
    }
    // Connections of the load end meanwhile: between the two readings, too.
    eventually("counts and table agree", || counts_agree(&cluster.director).is_ok());
    counts_agree(&cluster.director)?;
    kept.ask()
}
