//! Schedulers that look at every destination, of lists that have a roster: every pick of the data plane is that of the
//! scheduler on the plain list, through all changes of the list.

#[path = "../../../lvs-common/tests/director/mod.rs"]
mod director;

use lvs_common::byte_order::Be16;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, Map, MapData};
use director::{Service, address};
use lvs_common::abi::RosterPart;
use lvs_common::sched::{PickKey, roster};
use tests::fixtures::{CLIENT_MAC, Port, Programs, SERVER, Testbed, frame, pins, vip, xdp_verdict};

/// The schedulers, but for twos: that one draws lots.
const SCHEDULERS: [&str; 8] = ["lc", "wlc", "sed", "nq", "fo", "ovf", "lblc", "lblcr"];
/// Connections between two changes.
const CONNECTIONS: usize = 40;

/// A service of the director's, and what it should do.
struct Watched {
    at: SocketAddr,
    model: Service,
}

impl Watched {
    /// Has the model and the director carry out a command about a server: `-a`, `-e` or `-d`, the server's port, options.
    fn command(&mut self, testbed: &Testbed, command: &str, port: u16, options: &str) -> Result<()> {
        let line = format!("{command} -t {} -r {}:{port} {options}", self.at, SERVER.of(false));
        self.model.command(&line);
        testbed.director.lvsadm(&line)?;
        Ok(())
    }

    /// Opens a connection by its first packet: it goes where the model says.
    fn open(&mut self, programs: &Programs, front: Port, client: SocketAddr) -> Result<()> {
        let key = PickKey {
            client: address(client.ip()),
            client_port: Be16::new(client.port()),
            virt: address(self.at.ip()),
            ..PickKey::default()
        };
        let dest = self.model.pick(&key);
        let expected = dest.is_some().then(|| self.model.servers[dest.get() as usize - 1].socket.port());
        let picked = server_of(programs, front, client, self.at)?;
        ensure!(picked == expected, "{client} went to {picked:?} instead of {expected:?}");
        if dest.is_some() {
            self.model.bind_active(dest);
        }
        Ok(())
    }
}

/// Weights of many servers, with ties and zeros.
fn weight(port: u16) -> u16 {
    if port.is_multiple_of(11) { 0 } else { 1 + port * 7 % 5 }
}

/// The port of the server that a client's first packet to a service goes to.
fn server_of(programs: &Programs, front: Port, client: SocketAddr, service: SocketAddr) -> Result<Option<u16>> {
    let packet = frame::ip(client.ip(), service.ip(), 0, 64, frame::TCP, &frame::tcp(client, service, true, b""));
    let outcome = programs.run_xdp(front, &frame::ethernet(front.mac, CLIENT_MAC, &packet))?;
    let port = || Some(u16::from_be_bytes(outcome.frame.get(36..38)?.try_into().ok()?));
    Ok(if outcome.verdict == xdp_verdict::REDIRECT { port() } else { None })
}

/// Clients of a network, none twice.
fn clients(network: u8) -> impl Iterator<Item = SocketAddr> {
    let client = move |n: u32| {
        let ip = Ipv4Addr::new(10, 20, network, 1 + (n % 250) as u8);
        SocketAddr::new(IpAddr::V4(ip), 1024 + (n / 250) as u16)
    };
    (0..250 * 60_000).map(client)
}

fn follow(testbed: &Testbed, number: u16, scheduler: &str, servers: u16) -> Result<()> {
    let at = SocketAddr::new(vip(false), 5000 + number);
    let mut watched = Watched { at, model: Service::new("none", &[]) };
    let mut rules = vec![format!("-A -t {at} -s {scheduler}")];
    rules.extend((1..=servers).map(|port| format!("-a -t {at} -r {}:{port} -m -w {}", SERVER.of(false), weight(port))));
    rules.iter().for_each(|rule| watched.model.command(rule));
    testbed.restore(&rules)?;
    // Beside the heaviest of all, fo and ovf would never look at the others: it is overloaded soon.
    let changes = [
        ("-e", 3, "-m -w 4"),
        ("-e", servers, "-m -w 0"),
        ("-e", 2, "-m -w 90 -x 5"),
        ("-d", 5, ""),
        ("-d", servers - 1, ""),
        ("-a", 5, "-m -w 3"),
        ("-a", servers + 1, "-m -w 5 -x 2"),
        ("-e", servers, "-m -w 9 -x 7"),
    ];
    let mut clients = clients(1 + number as u8);
    for round in 0..=changes.len() {
        testbed
            .with_programs(|programs| {
                let mut clients = clients.by_ref().take(CONNECTIONS);
                clients.try_for_each(|client| watched.open(programs, testbed.front, client))
            })
            .with_context(|| format!("{scheduler}, {servers} servers, after {round} changes"))?;
        if let Some((command, port, options)) = changes.get(round) {
            watched.command(testbed, command, *port, options)?;
        }
    }
    Ok(())
}

#[test]
fn every_pick_is_that_of_the_plain_list() {
    let testbed = Testbed::new().unwrap();
    testbed.director.lvsadm("attach --mode native").unwrap();
    // One whole part, a little more, and many.
    for (n, servers) in [12, 13, 100].into_iter().enumerate() {
        for (s, scheduler) in SCHEDULERS.iter().enumerate() {
            follow(&testbed, (n * SCHEDULERS.len() + s) as u16, scheduler, servers).unwrap();
        }
    }
}

/// Two servers take turns as the heaviest of many, and packets come all the while: none goes to a third.
#[test]
fn changes_are_seen_whole() {
    let testbed = Testbed::new().unwrap();
    testbed.director.lvsadm("attach --mode native --conns 262144").unwrap();
    let at = SocketAddr::new(vip(false), 80);
    let rules = [40u16, 41].map(|heaviest| {
        let weight = |port| if port == heaviest { 1000 } else { port };
        let mut rules = format!("-A -t {at} -s fo\n");
        for port in 1..=80 {
            rules += &format!("-a -t {at} -r {}:{port} -m -w {}\n", SERVER.of(false), weight(port));
        }
        let path = std::env::temp_dir().join(format!("{}-{heaviest}.rules", testbed.director.name()));
        std::fs::write(&path, rules).unwrap();
        path
    });
    testbed.director.lvsadm(&format!("apply {}", rules[0].display())).unwrap();
    let over = AtomicBool::new(false);
    let picked = std::thread::scope(|scope| {
        let packets = scope.spawn(|| {
            testbed.with_programs(|programs| {
                let mut picked = BTreeSet::new();
                for client in clients(1).take_while(|_| !over.load(Ordering::Relaxed)) {
                    picked.insert(server_of(programs, testbed.front, client, at)?);
                }
                Ok(picked)
            })
        });
        for round in 1..=100 {
            testbed.director.lvsadm(&format!("apply {}", rules[round % 2].display())).unwrap();
        }
        over.store(true, Ordering::Relaxed);
        packets.join().unwrap()
    });
    rules.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    assert_eq!(picked.unwrap(), BTreeSet::from([Some(40), Some(41)]));
}

/// A roster that no packet reads any more gives its places back.
#[test]
fn edits_do_not_use_up_the_places() {
    const SERVERS: u16 = 300;
    let testbed = Testbed::new().unwrap();
    let at = SocketAddr::new(vip(false), 80);
    let mut rules = vec![format!("-A -t {at} -s wlc")];
    rules.extend((1..=SERVERS).map(|port| format!("-a -t {at} -r {}:{port} -m", SERVER.of(false))));
    testbed.restore(&rules).unwrap();
    for weight in 2..10 {
        testbed.director.lvsadm(&format!("-e -t {at} -r {}:1 -m -w {weight}", SERVER.of(false))).unwrap();
    }
    let used = testbed.director.enter(|| {
        let map = MapData::from_pin(pins()?.join("ROSTERS")).context("no map ROSTERS")?;
        let parts: Array<_, [u64; size_of::<RosterPart>() / 8]> = Map::from_map_data(map)?.try_into()?;
        let parts = parts.iter().collect::<Result<Vec<_>, _>>()?;
        Ok(parts.iter().filter(|part| part.iter().any(|word| *word != 0)).count())
    });
    let roster = roster::parts(SERVERS.into());
    let used = used.unwrap();
    assert!((2 * roster..=3 * roster).contains(&used), "{used} places for rosters of {roster}");
}
