//! What becomes of connections when there are many: the table's bounds, the strategies that keep it from filling up, and
//! counters that are exact all the while.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::Value;
use tests::eventually;
use tests::fixtures::frame::{self, SCTP, TCP, UDP};
use tests::fixtures::{self, CLIENT_MAC, Programs, SERVER, SERVER_MAC, Testbed, tc_verdict, vip, xdp_verdict};
use tests::topology::{Cluster, Counts, Layout, Namespace, Offloads, Origin, PacketSocket, Session, VIP};

/// Client `number`, behind the clients' router.
fn client(number: u16, v6: bool) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    let address: IpAddr = match v6 {
        false => Ipv4Addr::new(10, 20, high, low).into(),
        true => Ipv6Addr::new(0x2001, 0xdb8, 0xd, 0, 0, 0, 0, number).into(),
    };
    SocketAddr::new(address, 20_000 + number)
}

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Syn,
    Ack,
    Datagram,
    Init,
}

impl Kind {
    fn packet(self, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
        let (protocol, segment) = match self {
            Kind::Syn => (TCP, frame::tcp(from, to, true, b"")),
            Kind::Ack => (TCP, frame::tcp(from, to, false, b"")),
            Kind::Datagram => (UDP, frame::udp(from, to, b"x")),
            Kind::Init => (SCTP, frame::sctp(from, to)),
        };
        frame::ip(from.ip(), to.ip(), 0, 64, protocol, &segment)
    }
}

/// How a frame goes into the director.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tier {
    Xdp,
    Tc,
}

/// What came of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Forwarded,
    Dropped,
    Passed,
}

/// A director of a number of services, each with one real server behind NAT.
struct Director {
    testbed: Testbed,
}

impl Director {
    /// With room for so many connections; `services` are `-A`'s arguments, and their server has the service's port.
    fn new(room: u32, services: &[String]) -> Result<Self> {
        let testbed = Testbed::new()?;
        testbed.director.lvsadm(&format!("attach --mode native --conns {room}"))?;
        let mut rules = Vec::new();
        for service in services {
            let name: Vec<&str> = service.split(' ').take(2).collect();
            let address: SocketAddr = name[1].parse()?;
            let server = SocketAddr::new(SERVER.of(address.is_ipv6()), address.port());
            rules.push(format!("-A {service}"));
            rules.push(format!("-a {} -r {server} -m", name.join(" ")));
        }
        testbed.restore(&rules)?;
        Ok(Director { testbed })
    }

    /// The fates of clients' packets to a service, one of each client.
    fn send(
        &self,
        tier: Tier,
        kind: Kind,
        to: SocketAddr,
        clients: impl Iterator<Item = u16> + Send,
    ) -> Result<Vec<Fate>> {
        let (port, mac) = (self.testbed.front, self.testbed.front.mac);
        self.testbed.with_programs(|programs| {
            let frame = |number| frame::ethernet(mac, CLIENT_MAC, &kind.packet(client(number, to.is_ipv6()), to));
            clients.map(|number| fate(programs, tier, port, &frame(number))).collect()
        })
    }

    /// The fate of the real server's packet to a client.
    fn answer(&self, kind: Kind, from: SocketAddr, number: u16) -> Result<Fate> {
        let port = self.testbed.back;
        let server = SocketAddr::new(SERVER.of(from.is_ipv6()), from.port());
        let packet = kind.packet(server, client(number, from.is_ipv6()));
        let frame = frame::ethernet(port.mac, SERVER_MAC, &packet);
        self.testbed.with_programs(|programs| fate(programs, Tier::Tc, port, &frame))
    }

    /// What `lvsadm status` tells under a name.
    fn status(&self, name: &str) -> Value {
        self.testbed.director.json("status --json").unwrap()[name].clone()
    }

    fn lvsadm(&self, arguments: &str) -> String {
        self.testbed.director.lvsadm(arguments).unwrap()
    }
}

fn fate(programs: &Programs, tier: Tier, port: fixtures::Port, frame: &[u8]) -> Result<Fate> {
    let verdict = match tier {
        Tier::Xdp => programs.run_xdp(port, frame)?.verdict,
        Tier::Tc => programs.run_tc(port, frame)?.verdict,
    };
    Ok(match (tier, verdict) {
        (Tier::Xdp, xdp_verdict::REDIRECT) | (Tier::Tc, tc_verdict::REDIRECT) => Fate::Forwarded,
        (Tier::Xdp, xdp_verdict::DROP) | (Tier::Tc, tc_verdict::SHOT) => Fate::Dropped,
        (Tier::Xdp, xdp_verdict::PASS) | (Tier::Tc, tc_verdict::PASS) => Fate::Passed,
        other => anyhow::bail!("another verdict: {other:?}"),
    })
}

fn count(fates: &[Fate], wanted: Fate) -> usize {
    fates.iter().filter(|fate| **fate == wanted).count()
}

/// How many connections have this state.
fn in_state(director: &Namespace, state: &str) -> usize {
    director.connections().unwrap().iter().filter(|c| c["state"] == state).count()
}

fn service(port: u16) -> SocketAddr {
    SocketAddr::new(vip(false), port)
}

#[test]
fn drop_packet_drops_one_new_connection_in_so_many() {
    let web = service(80);
    let director = Director::new(4000, &[format!("-t {web} -s rr")]).unwrap();
    let dropped = |clients: std::ops::Range<u16>, tier| {
        let fates = director.send(tier, Kind::Syn, web, clients.clone()).unwrap();
        assert_eq!(count(&fates, Fate::Passed), 0);
        // What was let in has a connection: nothing of that is dropped.
        let let_in = clients.zip(&fates).filter(|(_, fate)| **fate == Fate::Forwarded).map(|(number, _)| number);
        let fates_of_more = director.send(tier, Kind::Ack, web, let_in).unwrap();
        assert_eq!(count(&fates_of_more, Fate::Forwarded), count(&fates, Fate::Forwarded));
        count(&fates, Fate::Dropped)
    };
    let rate_is = |rate: u32| eventually("another rate", || director.status("defence")["drop_rate"] == rate);
    assert_eq!(dropped(0..100, Tier::Xdp), 0);
    director.lvsadm("sysctl drop_packet=3 am_droprate=5");
    rate_is(5);
    assert_eq!(dropped(100..200, Tier::Xdp), 20);
    assert_eq!(dropped(200..300, Tier::Tc), 20);
    assert_eq!(director.testbed.director.exit("drop-defence").unwrap(), 40);
    director.lvsadm("sysctl am_droprate=100");
    rate_is(100);
    assert_eq!(dropped(300..500, Tier::Tc), 2);
    for nothing in ["drop_packet=3 am_droprate=0", "drop_packet=0 am_droprate=1"] {
        director.lvsadm(&format!("sysctl {nothing}"));
        rate_is(0);
        assert_eq!(dropped(500..600, Tier::Tc), 0);
        director.lvsadm(&format!("drain -t {web} -r {}:80 --timeout 0 --reset", SERVER.of(false)));
        director.lvsadm(&format!("-e -t {web} -r {}:80 -m -w 1", SERVER.of(false)));
    }
}

#[test]
fn drop_entry_takes_out_what_was_never_established() {
    let web = service(80);
    let director = Director::new(1000, &[format!("-t {web} -s rr")]).unwrap();
    director.send(Tier::Tc, Kind::Syn, web, 0..350).unwrap();
    director.send(Tier::Tc, Kind::Ack, web, 0..50).unwrap();
    let host = &director.testbed.director;
    assert_eq!((in_state(host, "ESTABLISHED"), in_state(host, "SYN_RECV")), (50, 300));
    director.lvsadm("sysctl drop_entry=3");
    eventually("some are taken out", || director.status("defence")["entries_dropped"].as_u64().unwrap() >= 50);
    assert_eq!(director.status("defence")["drop_entry"], "always");
    director.lvsadm("sysctl drop_entry=0");
    assert_eq!(in_state(host, "ESTABLISHED"), 50);
    assert!(in_state(host, "SYN_RECV") <= 250);
    // The sweep may be in the middle of it.
    eventually("the counters are the table's", || {
        let counts = host.destinations(&format!("-t {web}")).unwrap()["192.168.122.101"];
        counts.active as usize == host.connections().unwrap().len() && counts.inactive == 0
    });
}

#[test]
fn automatic_strategies_work_while_the_table_is_nearly_full() {
    let dns = service(53);
    let director = Director::new(1000, &[format!("-u {dns} -s rr --conn-timeout 0:0:3600")]).unwrap();
    let are = |mode: &str| {
        let defence = director.status("defence");
        ["drop_entry", "drop_packet", "secure_tcp"].iter().all(|strategy| defence[strategy] == mode)
    };
    director.lvsadm("sysctl drop_entry=1 drop_packet=1 secure_tcp=1");
    director.send(Tier::Tc, Kind::Datagram, dns, 0..500).unwrap();
    eventually("the sweep has counted", || director.status("connections")["inet"] == 500);
    assert!(are("resting") && director.status("defence")["drop_rate"] == 0);
    director.send(Tier::Tc, Kind::Datagram, dns, 500..1000).unwrap();
    eventually("they work", || are("working"));
    let defence = director.status("defence");
    assert!(defence["drop_rate"].as_u64().is_some_and(|rate| rate > 0), "{defence}");
    // What is saved is what was set, and not what has become of it.
    assert!(director.lvsadm("save --full").contains("\nsysctl drop_entry=1\n"));
    director.lvsadm(&format!("drain -u {dns} -r {}:53 --timeout 0 --reset", SERVER.of(false)));
    eventually("they rest", || are("resting") && director.status("defence")["drop_rate"] == 0);
    eventually("the sweep finds nothing", || director.status("connections")["inet"] == 0);
}

#[test]
fn with_secure_tcp_the_real_server_establishes_connections() {
    let web = service(80);
    let director = Director::new(1000, &[format!("-t {web} -s rr")]).unwrap();
    let host = &director.testbed.director;
    let state = |number: u16| {
        let connections = host.connections().unwrap();
        let found = connections.iter().find(|c| c["client"]["port"] == 20_000 + number).unwrap();
        found["state"].as_str().unwrap().to_owned()
    };
    for (secure, states) in [
        (0, ["SYN_RECV", "ESTABLISHED", "ESTABLISHED", "ESTABLISHED"]),
        (3, ["SYN_RECV", "SYN_RECV", "SYNACK", "ESTABLISHED"]),
    ] {
        director.lvsadm(&format!("sysctl secure_tcp={secure}"));
        director.send(Tier::Tc, Kind::Syn, web, [secure].into_iter()).unwrap();
        let mut seen = vec![state(secure)];
        director.send(Tier::Tc, Kind::Ack, web, [secure].into_iter()).unwrap();
        seen.push(state(secure));
        for kind in [Kind::Syn, Kind::Ack] {
            assert_eq!(director.answer(kind, web, secure).unwrap(), Fate::Forwarded);
            seen.push(state(secure));
        }
        assert_eq!(seen, states, "secure_tcp={secure}");
    }
}

/// Connections of every kind end by themselves, and all counters with them.
#[test]
fn filled_and_drained_all_counters_are_back_at_zero() {
    const CLIENTS: u16 = 1000;
    let mut services = Vec::new();
    let mut sent = Vec::new();
    for v6 in [false, true] {
        let to = |port| SocketAddr::new(vip(v6), port);
        services.extend([
            format!("-t {} -s rr --conn-timeout 1:1:1", to(80)),
            format!("-t {} -s rr -p 4 --conn-timeout 1:1:1", to(81)),
            format!("-u {} -s rr --conn-timeout 0:0:1", to(53)),
            format!("--sctp-service {} -s rr", to(90)),
        ]);
        sent.extend([(to(80), Kind::Syn), (to(80), Kind::Ack), (to(81), Kind::Syn), (to(81), Kind::Ack)]);
        // An INIT alone lives for four seconds.
        sent.extend([(to(53), Kind::Datagram), (to(90), Kind::Init)]);
    }
    let director = Director::new(20_000, &services).unwrap();
    for (to, kind) in sent {
        for (tier, clients) in [(Tier::Xdp, 0..CLIENTS / 2), (Tier::Tc, CLIENTS / 2..CLIENTS)] {
            let fates = director.send(tier, kind, to, clients).unwrap();
            let full = director.status("full_table");
            assert_eq!(count(&fates, Fate::Forwarded), fates.len(), "{kind:?} to {to} by {tier:?}: {full}");
        }
    }
    let host = &director.testbed.director;
    let counts = || -> Vec<Counts> {
        let names = services.iter().map(|s| s.split(' ').take(2).collect::<Vec<_>>().join(" "));
        names.flat_map(|name| host.destinations(&name).unwrap().into_values()).collect()
    };
    let zero = Counts { weight: 1, ..Counts::default() };
    eventually("every counter is 0", || counts().iter().all(|counts| *counts == zero));
    eventually("the sweep finds nothing", || {
        director.status("connections") == serde_json::json!({ "inet": 0, "inet6": 0 })
    });
    assert!(host.connections().unwrap().is_empty());
    let services = host.json("-L --stats --json").unwrap();
    for service in services.as_array().unwrap() {
        assert_eq!(service["statistics"]["connections"], CLIENTS, "{service}");
    }
}

/// What is half open or of one packet gives way to whatever is new, of each family and in each tier; what is established stays, and
/// counters are those of the table.
#[test]
fn in_a_full_table_the_least_worth_gives_way() {
    const ESTABLISHED: u16 = 300;
    for v6 in [false, true] {
        let to = |port| SocketAddr::new(vip(v6), port);
        let services = [
            format!("-t {} -s rr", to(80)),
            format!("-u {} -s rr", to(53)),
            format!("-u {} -s rr -p 300", to(54)),
            format!("--sctp-service {} -s rr", to(90)),
        ];
        let director = Director::new(1000, &services).unwrap();
        let host = &director.testbed.director;
        for kind in [Kind::Syn, Kind::Ack] {
            director.send(Tier::Tc, kind, to(80), 0..ESTABLISHED).unwrap();
        }
        let floods = [(to(53), Kind::Datagram), (to(80), Kind::Syn), (to(90), Kind::Init), (to(54), Kind::Datagram)];
        for (number, (to, kind)) in (1u16..).zip(floods) {
            let first = number * 4000;
            for (tier, clients) in [(Tier::Xdp, first..first + 2000), (Tier::Tc, first + 2000..first + 4000)] {
                let fates = director.send(tier, kind, to, clients).unwrap();
                let full = director.status("full_table");
                assert_eq!(count(&fates, Fate::Forwarded), fates.len(), "{kind:?} to {to} by {tier:?}: {full}");
            }
            assert_eq!(in_state(host, "ESTABLISHED"), usize::from(ESTABLISHED), "after {kind:?}");
        }
        let full = director.status("full_table");
        let gone = |kind: &str| full["evictions"][kind].as_u64().unwrap();
        assert!(gone("half-open") > 3000 && gone("one-packet") > 1000, "{full}");
        assert_eq!((full["refused"].as_u64(), gone("closing")), (Some(0), 0), "{full}");
        let listed = host.connections().unwrap();
        let counts = services.iter().map(|service| {
            let name = service.split(' ').take(2).collect::<Vec<_>>().join(" ");
            host.destinations(&name).unwrap().into_values().map(|c| c.active + c.inactive + c.persistent).sum::<u32>()
        });
        assert_eq!(counts.sum::<u32>() as usize, listed.len());
        // A client that was there goes on, and one that comes next is served.
        assert_eq!(count(&director.send(Tier::Tc, Kind::Ack, to(80), 0..ESTABLISHED).unwrap(), Fate::Forwarded), 300);
        assert_eq!(director.send(Tier::Xdp, Kind::Syn, to(80), 30_000..30_001).unwrap(), [Fate::Forwarded]);
    }
}

/// A table of established connections refuses new ones, and keeps each that it has.
#[test]
fn what_is_established_never_gives_way() {
    let (web, dns) = (service(80), service(53));
    let director = Director::new(400, &[format!("-t {web} -s rr"), format!("-u {dns} -s rr")]).unwrap();
    let host = &director.testbed.director;
    let mut established = 0;
    for number in 0..900 {
        let fates = director.send(Tier::Tc, Kind::Syn, web, [number].into_iter()).unwrap();
        if fates == [Fate::Forwarded] {
            assert_eq!(director.send(Tier::Tc, Kind::Ack, web, [number].into_iter()).unwrap(), fates);
            established += 1;
        }
    }
    // 34 buckets of 16 ways.
    assert!((400..=544).contains(&established), "{established} of 544 ways");
    assert_eq!(in_state(host, "ESTABLISHED"), established);
    assert_eq!(director.status("full_table")["refused"], 900 - established);
    let fates = director.send(Tier::Xdp, Kind::Datagram, dns, 1000..2000).unwrap();
    assert!(count(&fates, Fate::Dropped) > 400, "{} were refused", count(&fates, Fate::Dropped));
    assert_eq!(in_state(host, "ESTABLISHED"), established);
    assert_eq!(director.status("full_table")["evictions"]["half-open"], 0);
}

/// FullNAT has two entries for each connection, and a port: all go with it.
#[test]
fn fullnat_gives_back_what_gave_way() {
    const FLOOD: u16 = 4000;
    for (v6, crossed) in [(false, false), (true, false), (true, true)] {
        let director = Director::new(1000, &[]).unwrap();
        let host = &director.testbed.director;
        let to = SocketAddr::new(vip(v6), 80);
        let server = SocketAddr::new(SERVER.of(v6 && !crossed), 80);
        director.lvsadm(&format!("-A -t {to} -s rr"));
        director.lvsadm(&format!("-a -t {to} -r {server} --fullnat"));
        director.lvsadm(&format!("--add-laddr -t {to} -z {}", fixtures::LOCAL.of(v6 && !crossed)));
        let fates = director.send(Tier::Tc, Kind::Syn, to, 0..FLOOD).unwrap();
        let served = count(&fates, Fate::Forwarded);
        assert!(served >= fates.len() * 9 / 10, "{served} of {}", fates.len());
        let listed = host.connections().unwrap().len();
        let counts: u32 =
            host.destinations(&format!("-t {to}")).unwrap().into_values().map(|c| c.active + c.inactive).sum();
        assert_eq!(counts as usize, listed, "v6 {v6}, crossed {crossed}");
        let ports = host.lvsadm(&format!("--get-laddr -t {to} -n")).unwrap();
        let taken = ports.lines().last().and_then(|line| line.split_whitespace().last()).map(str::to_owned);
        assert_eq!(taken, Some(listed.to_string()), "{ports}");
    }
}

/// A flood by raw frames, beside connections of real sockets to a real server.
#[test]
fn a_flood_fills_the_table_and_what_is_established_goes_on() {
    const FLOWS: usize = 1000;
    const FLOOD: u16 = 6000;
    raise_limits().unwrap();
    let cluster = Cluster::new(Layout { servers: 1, offloads: Offloads::Off, ..Layout::default() }).unwrap();
    let director = &cluster.director;
    director.sysctl(&["net/ipv4/ip_forward=1"]).unwrap();
    director.lvsadm("attach --mode native --conns 2000").unwrap();
    director.lvsadm("-A -t 10.10.10.10:80 -s rr").unwrap();
    director.lvsadm("-a -t 10.10.10.10:80 -r 192.168.122.101:80 -m").unwrap();
    let to = SocketAddr::new(VIP, 80);
    let mut sessions: Vec<Session> =
        (0..FLOWS).map(|_| Session::open(&cluster.client, to, Origin::default()).unwrap()).collect();
    sessions.iter_mut().for_each(|session| assert_eq!(session.ask().unwrap(), "rs1"));

    let mac = director.enter(|| Ok(fixtures::port("eth0")?.mac)).unwrap();
    let socket = PacketSocket::open(&cluster.client, "eth0").unwrap();
    let mut flood =
        (0..FLOOD).map(|number| frame::ethernet(mac, CLIENT_MAC, &Kind::Syn.packet(client(number, false), to)));
    // Some of the flood before each request, so that most are made of a full table.
    for session in &mut sessions {
        flood.by_ref().take(usize::from(FLOOD) / FLOWS).for_each(|frame| socket.send(&frame).unwrap());
        assert_eq!(session.ask().unwrap(), "rs1");
    }
    let gone = director.exit("evicted-half-open").unwrap();
    assert!(gone > 1000, "only {gone} gave way");
    assert_eq!(director.exit("drop-table-full").unwrap(), 0);
    for session in &mut sessions {
        assert_eq!(session.ask().unwrap(), "rs1");
    }
    // Requests of the flood that were not answered may be running out meanwhile.
    eventually("the counters are the table's", || check_counts(director, FLOWS).is_ok());
}

/// The counters are those of the table, in which all flows still are.
fn check_counts(director: &Namespace, flows: usize) -> Result<()> {
    let listed = director.connections()?;
    let counts = director.destinations("-t 10.10.10.10:80")?["192.168.122.101"];
    ensure!((counts.active + counts.inactive) as usize == listed.len(), "{counts:?}, {} are listed", listed.len());
    let established = in_state(director, "ESTABLISHED");
    ensure!(established == flows, "{established} established");
    let statistics = &director.json("-L -t 10.10.10.10:80 --stats --json")?[0]["statistics"];
    let opened = statistics["connections"].as_u64().context("no counter")?;
    ensure!(opened >= listed.len() as u64, "{opened} were opened, {} are listed", listed.len());
    Ok(())
}

/// Lets this process have as many sockets as it may.
fn raise_limits() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    ensure!(most > 4096, "this process may have {most} files, which are too few");
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}
