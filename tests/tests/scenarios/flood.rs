//! Floods of SYNs, and the challenge that keeps them out (`-j enable`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use etherparse::TcpHeader;
use lvs_common::checksum;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tests::eventually;
use tests::fixtures::frame::{self, TCP};
use tests::fixtures::{self, CLIENT_MAC, CLIENTS, Outcome, SERVER, Testbed, tc_verdict, vip, xdp_verdict};
use tests::topology::{
    Arms, Client, Cluster, Layout, Namespace, Offloads, Origin, PacketSocket, Session, Site, VIP, VIP6,
};

/// What a client's segments begin with.
const SEQUENCE: u32 = 0x1234_5678;

/// Which programs see the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tier {
    Xdp,
    Tc,
}

const TIERS: [Tier; 2] = [Tier::Xdp, Tier::Tc];

/// What came of a frame.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// It went to the real server.
    Forwarded,
    /// It was sent back, as a challenge with this number.
    Challenged(u32),
    Dropped,
    Passed,
}

/// Flags of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flags {
    Syn,
    SynFin,
    SynAck,
    Ack,
    Rst,
    RstAck,
}

/// A segment of a client's, with options as real requests have them.
fn segment(from: SocketAddr, to: SocketAddr, flags: Flags, sequence: u32) -> Vec<u8> {
    let mut header = TcpHeader::new(from.port(), to.port(), sequence, 64240);
    header.syn = matches!(flags, Flags::Syn | Flags::SynFin | Flags::SynAck);
    header.ack = matches!(flags, Flags::SynAck | Flags::Ack | Flags::RstAck);
    header.rst = matches!(flags, Flags::Rst | Flags::RstAck);
    header.fin = flags == Flags::SynFin;
    if header.syn {
        // MSS, SACK permitted, timestamps, window scale.
        let options = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 7, 0, 0, 0, 0, 1, 3, 3, 7];
        header.set_options_raw(&options).expect("options of a length that fits");
    }
    frame::segment(&header, from.ip(), to.ip(), b"")
}

/// The packet around it.
fn packet(from: SocketAddr, to: SocketAddr, flags: Flags, sequence: u32) -> Vec<u8> {
    frame::ip(from.ip(), to.ip(), frame::TOS, 57, TCP, &segment(from, to, flags, sequence))
}

/// A director whose services challenge everybody they do not know.
struct Director(Testbed);

impl Director {
    /// With services named by `-A`'s arguments, each with one real server behind NAT.
    fn new(services: &[String]) -> Result<Self> {
        let testbed = Testbed::new()?;
        testbed.director.lvsadm("attach --mode native --conns 1000")?;
        testbed.director.lvsadm("sysctl synproxy_rate=0")?;
        let mut rules = Vec::new();
        for service in services {
            let name = service.split(" -s").next().context("no scheduler")?;
            let server = SERVER.of(service.contains('[') || service.contains("-6"));
            rules.push(format!("-A {service}"));
            rules.push(format!("-a {name} -r {} -m", SocketAddr::new(server, 80)));
        }
        testbed.restore(&rules)?;
        Ok(Director(testbed))
    }

    fn host(&self) -> &Namespace {
        &self.0.director
    }

    fn lvsadm(&self, arguments: &str) {
        self.host().lvsadm(arguments).unwrap();
    }

    /// What becomes of packets that come in at the front.
    fn send(&self, tier: Tier, packets: impl Iterator<Item = Vec<u8>> + Send) -> Result<Vec<Fate>> {
        let front = self.0.front;
        self.0.with_programs(|programs| {
            packets
                .map(|packet| {
                    let frame = frame::ethernet(front.mac, CLIENT_MAC, &packet);
                    let outcome = match tier {
                        Tier::Xdp => programs.run_xdp(front, &frame)?,
                        Tier::Tc => programs.run_tc(front, &frame)?,
                    };
                    fate(tier, &frame, outcome)
                })
                .collect()
        })
    }

    fn one(&self, tier: Tier, packet: Vec<u8>) -> Fate {
        self.send(tier, [packet].into_iter()).unwrap().remove(0)
    }

    /// The number of the challenge of a request.
    fn challenge(&self, tier: Tier, from: SocketAddr, to: SocketAddr) -> u32 {
        match self.one(tier, packet(from, to, Flags::Syn, SEQUENCE)) {
            Fate::Challenged(number) => number,
            other => panic!("{tier:?}: {from} to {to}: {other:?}"),
        }
    }
}

fn fate(tier: Tier, frame: &[u8], outcome: Outcome) -> Result<Fate> {
    Ok(match (tier, outcome.verdict) {
        // Where the kernel's neighbour output addresses it, it is as yet addressed to the director.
        (Tier::Xdp, xdp_verdict::REDIRECT) | (Tier::Tc, tc_verdict::REDIRECT) if outcome.frame[..6] != CLIENT_MAC => {
            Fate::Forwarded
        }
        (Tier::Xdp, xdp_verdict::REDIRECT) | (Tier::Tc, tc_verdict::REDIRECT) => {
            let number = number_of(&outcome.frame);
            let expected = challenge(frame, number);
            ensure!(outcome.frame == expected, "\n  got      {:02x?}\n  expected {expected:02x?}", outcome.frame);
            Fate::Challenged(number)
        }
        (Tier::Xdp, xdp_verdict::DROP) | (Tier::Tc, tc_verdict::SHOT) => Fate::Dropped,
        (Tier::Xdp, xdp_verdict::PASS) | (Tier::Tc, tc_verdict::PASS) => Fate::Passed,
        other => anyhow::bail!("another verdict: {other:?}"),
    })
}

/// The acknowledgement number of a frame without options.
fn number_of(frame: &[u8]) -> u32 {
    let tcp = if frame[12] == 0x86 { 54 } else { 34 };
    u32::from_be_bytes(frame[tcp + 8..tcp + 12].try_into().expect("four bytes"))
}

/// The challenge of a request, the whole frame.
fn challenge(request: &[u8], number: u32) -> Vec<u8> {
    let parsed = etherparse::SlicedPacket::from_ethernet(request).expect("a frame of ours");
    let Some(etherparse::TransportSlice::Tcp(tcp)) = parsed.transport else { panic!("no TCP") };
    let (client, service): (IpAddr, IpAddr) = match parsed.net {
        Some(etherparse::NetSlice::Ipv4(ip)) => {
            (ip.header().source_addr().into(), ip.header().destination_addr().into())
        }
        Some(etherparse::NetSlice::Ipv6(ip)) => {
            (ip.header().source_addr().into(), ip.header().destination_addr().into())
        }
        _ => panic!("no IP"),
    };
    let mut header = TcpHeader::new(tcp.destination_port(), tcp.source_port(), 0, 0);
    (header.ack, header.acknowledgment_number) = (true, number);
    let segment = frame::segment(&header, service, client, b"");
    let mac = |at: usize| request[at..at + 6].try_into().expect("six bytes");
    frame::ethernet(mac(6), mac(0), &frame::ip(service, client, 0, 64, TCP, &segment))
}

/// Client `number`, behind the clients' router, in an IPv6 network of its own.
fn client(number: u16, v6: bool) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    let address: IpAddr = match v6 {
        false => Ipv4Addr::new(10, 20, high, low).into(),
        true => Ipv6Addr::new(0x2001, 0xdb8, 0xd, number, 0, 0, 0, 1).into(),
    };
    SocketAddr::new(address, 20_000 + number)
}

#[test]
fn who_answers_a_challenge_is_let_in() {
    let services = [false, true].map(|v6| SocketAddr::new(vip(v6), 80));
    let director = Director::new(&services.map(|to| format!("-t {to} -s rr -j enable"))).unwrap();
    let send = |tier, from, to, flags, sequence| director.one(tier, packet(from, to, flags, sequence));
    for (v6, to) in [false, true].into_iter().zip(services) {
        for (tier, other_tier, first) in [(Tier::Xdp, Tier::Tc, 0), (Tier::Tc, Tier::Xdp, 1)] {
            let from = if first == 0 { SocketAddr::new(CLIENTS.of(v6), 20_000) } else { client(first, v6) };
            let number = director.challenge(tier, from, to);
            // RFC 9293 §3.10.7.3: the client says nothing to what acknowledges what it sent.
            assert_ne!(number, SEQUENCE.wrapping_add(1));
            let other = |from: SocketAddr| SocketAddr::new(from.ip(), from.port() + 1);
            for (from, flags, sequence) in [
                (from, Flags::Rst, number ^ 1),
                (from, Flags::Rst, SEQUENCE + 1),
                (other(from), Flags::Rst, number),
                (client(first + 10, v6), Flags::Rst, number),
                (from, Flags::Ack, number),
            ] {
                assert_eq!(send(tier, from, to, flags, sequence), Fate::Passed, "{flags:?} {sequence}");
            }
            director.challenge(tier, from, to);
            // What is no plain request would be no reason for an answer.
            for flags in [Flags::SynFin, Flags::SynAck] {
                assert_eq!(send(tier, from, to, flags, SEQUENCE), Fate::Dropped, "{flags:?}");
            }
            let flags = if first == 0 { Flags::Rst } else { Flags::RstAck };
            assert_eq!(send(tier, from, to, flags, number), Fate::Dropped);
            // From either tier on, and from any port.
            assert_eq!(send(tier, from, to, Flags::Syn, SEQUENCE), Fate::Forwarded);
            assert_eq!(send(other_tier, other(from), to, Flags::Syn, SEQUENCE), Fate::Forwarded);
            // The same address is asked for no more; in IPv6, the same network.
            let neighbour = match from.ip() {
                IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) ^ 0xff00).into()),
                IpAddr::V4(ip) => IpAddr::V4((u32::from(ip) ^ 0x1000).into()),
            };
            let fate = send(tier, SocketAddr::new(neighbour, 9), to, Flags::Syn, SEQUENCE);
            assert_eq!(fate == Fate::Forwarded, v6, "{neighbour}: {fate:?}");
        }
    }
    let host = director.host();
    let counts = ["challenged", "verified", "drop-unverified"].map(|exit| host.exit(exit).unwrap());
    assert_eq!(counts, [4 * 2 + 2, 4, 8]);
    // Nothing was kept of anybody else: two connections of each verified source, and the network's third.
    assert_eq!(host.connections().unwrap().len(), 4 * 2 + 2);
}

#[test]
fn every_kind_of_service_challenges() {
    let to = |port| SocketAddr::new(vip(false), port);
    let director = Director::new(&[
        format!("-t {} -s rr -p 300 -j enable", to(81)),
        "-f 7 -s rr -j enable".to_owned(),
        "-f 7 -6 -s rr -j enable".to_owned(),
        format!("-t {} -s rr", to(83)),
    ])
    .unwrap();
    director.lvsadm("mark add --mark 7 --to 10.10.10.10 --dport 82");
    director.lvsadm("mark add --mark 7 --to 2001:db8:a::10 --dport 82");
    for tier in TIERS {
        for (number, to) in [to(81), to(82), SocketAddr::new(vip(true), 82)].into_iter().enumerate() {
            let from = client(100 + number as u16 + 10 * tier as u16, to.is_ipv6());
            let cookie = director.challenge(tier, from, to);
            assert_eq!(director.one(tier, packet(from, to, Flags::Rst, cookie)), Fate::Dropped);
            assert_eq!(director.one(tier, packet(from, to, Flags::Syn, SEQUENCE)), Fate::Forwarded, "{to}");
        }
        let stranger = client(120 + tier as u16, false);
        assert_eq!(director.one(tier, packet(stranger, to(83), Flags::Syn, SEQUENCE)), Fate::Forwarded);
    }
    // Told otherwise, they challenge no more, and again.
    director.lvsadm(&format!("-E -t {} -s rr -p 300 -j disable", to(81)));
    assert_eq!(director.one(Tier::Xdp, packet(client(130, false), to(81), Flags::Syn, 7)), Fate::Forwarded);
    director.lvsadm(&format!("-E -t {} -s rr -p 300 -j enable", to(81)));
    // A connection that stands takes its request, and its RST.
    assert_eq!(director.one(Tier::Xdp, packet(client(130, false), to(81), Flags::Syn, 7)), Fate::Forwarded);
    assert_eq!(director.one(Tier::Xdp, packet(client(130, false), to(81), Flags::Rst, 8)), Fate::Forwarded);
    director.challenge(Tier::Xdp, client(131, false), to(81));
}

/// Requests with options of IP or extension headers, which are TC's.
#[test]
fn a_challenge_has_no_options() {
    let services = [false, true].map(|v6| SocketAddr::new(vip(v6), 80));
    let director = Director::new(&services.map(|to| format!("-t {to} -s rr -j enable"))).unwrap();
    for to in services {
        let from = client(7, to.is_ipv6());
        let tcp = segment(from, to, Flags::Syn, SEQUENCE);
        let request = match to.is_ipv6() {
            // Router alert (RFC 2113).
            false => {
                let plain = frame::ip(from.ip(), to.ip(), 0, 64, TCP, &[&[148, 4, 0, 0][..], &tcp].concat());
                let mut packet = plain.clone();
                packet[0] = 0x46;
                packet[10..12].fill(0);
                let sum = frame::internet_checksum(&packet[..24]);
                packet[10..12].copy_from_slice(&sum.to_be_bytes());
                packet
            }
            // Two headers of destination options, all padding (RFC 8200 §4.6).
            true => {
                let options = [[60, 0, 1, 4, 0, 0, 0, 0], [TCP, 0, 1, 4, 0, 0, 0, 0]].concat();
                frame::ip(from.ip(), to.ip(), 0, 64, 60, &[&options, &tcp[..]].concat())
            }
        };
        assert_eq!(director.one(Tier::Xdp, request.clone()), Fate::Passed);
        let Fate::Challenged(number) = director.one(Tier::Tc, request) else { panic!("{to}") };
        assert_eq!(director.one(Tier::Xdp, packet(from, to, Flags::Rst, number)), Fate::Dropped);
        assert_eq!(director.one(Tier::Xdp, packet(from, to, Flags::Syn, SEQUENCE)), Fate::Forwarded);
    }
}

#[test]
fn a_rate_of_requests_is_let_in_while_there_is_room() {
    const RATE: usize = 50;
    let web = SocketAddr::new(vip(false), 80);
    let director = Director::new(&[format!("-t {web} -s rr -j enable")]).unwrap();
    director.lvsadm(&format!("sysctl synproxy_rate={RATE}"));
    for (tier, first) in [(Tier::Xdp, 0), (Tier::Tc, 200)] {
        // A second in which nearly the whole rate is left, or the beginning of the next one.
        let first_of_second = packet(client(900 + first, false), web, Flags::Syn, SEQUENCE);
        eventually("another second", || director.one(tier, first_of_second.clone()) == Fate::Forwarded);
        let began = Instant::now();
        let requests = (first..first + 200).map(|number| packet(client(number, false), web, Flags::Syn, SEQUENCE));
        let fates = director.send(tier, requests).unwrap();
        let let_in = fates.iter().filter(|fate| **fate == Fate::Forwarded).count();
        // However long it took, and whatever second it began in.
        let most = RATE * (began.elapsed().as_secs() as usize + 2);
        assert!((RATE - 1..=most).contains(&let_in), "{let_in} of {most}");
        assert!(fates.iter().all(|fate| matches!(fate, Fate::Forwarded | Fate::Challenged(_))));
        if let_in < 200 {
            // A request that was let in has a connection, which takes it.
            let again = fates.iter().position(|fate| *fate == Fate::Forwarded).unwrap() as u16;
            let again = packet(client(first + again, false), web, Flags::Syn, SEQUENCE);
            assert_eq!(director.one(tier, again), Fate::Forwarded);
        }
    }
    // Of one source no more than its own rate.
    let from = client(500, false);
    director.lvsadm("sysctl synproxy_rate=0 synproxy_source_rate=20");
    let number = director.challenge(Tier::Xdp, from, web);
    assert_eq!(director.one(Tier::Xdp, packet(from, web, Flags::Rst, number)), Fate::Dropped);
    let began = Instant::now();
    let requests = (1..=100).map(|port| packet(SocketAddr::new(from.ip(), port), web, Flags::Syn, SEQUENCE));
    let fates = director.send(Tier::Xdp, requests).unwrap();
    let let_in = fates.iter().filter(|fate| **fate == Fate::Forwarded).count();
    assert!((20..=20 * (began.elapsed().as_secs() as usize + 2)).contains(&let_in), "{let_in}");
    // With half of the table in use, only verified sources are let in.
    director.lvsadm("sysctl synproxy_rate=1000 synproxy_source_rate=0");
    let fill = (101..700).map(|port| packet(SocketAddr::new(from.ip(), port), web, Flags::Syn, SEQUENCE));
    assert!(director.send(Tier::Xdp, fill).unwrap().iter().all(|fate| *fate == Fate::Forwarded));
    let host = director.host();
    eventually("the sweep has counted", || {
        host.json("status --json").unwrap()["connections"]["inet"].as_u64() > Some(510)
    });
    director.challenge(Tier::Tc, client(501, false), web);
    assert_eq!(director.one(Tier::Tc, packet(SocketAddr::new(from.ip(), 800), web, Flags::Syn, 1)), Fate::Forwarded);
}

/// Attaches the director in a way, with a service of each family that challenges everybody, by `mode`.
fn serve(cluster: &Cluster, tier: &str, mode: &str, addresses: &[IpAddr]) -> Vec<SocketAddr> {
    let director = &cluster.director;
    director.lvsadm(&format!("attach --mode {tier} --conns 20000")).unwrap();
    director.lvsadm("sysctl synproxy_rate=0").unwrap();
    if mode == "--fullnat" {
        for local in ["192.168.122.100", "2001:db8:b::100"] {
            director.lvsadm(&format!("--add-laddr -z {local}")).unwrap();
        }
    }
    let services: Vec<_> = addresses.iter().map(|address| SocketAddr::new(*address, 80)).collect();
    for service in &services {
        director.lvsadm(&format!("-A -t {service} -s rr -j enable")).unwrap();
        let (v4, v6) = cluster.server_addresses(1);
        let server = SocketAddr::new(if service.is_ipv6() { v6 } else { v4 }, 80);
        director.lvsadm(&format!("-a -t {service} -r {server} {mode}")).unwrap();
    }
    services
}

/// A real client is challenged with its first connection, and never again.
fn serves(cluster: &Cluster, to: SocketAddr) {
    let exits = || ["challenged", "verified"].map(|exit| cluster.director.exit(exit).unwrap());
    let before = exits();
    assert_eq!(cluster.client().get(to, "/").unwrap().split(' ').next(), Some("rs1"), "{to}");
    // A busy machine may have let it ask twice before the answer came.
    let after = exits();
    assert!(after[0] > before[0] && after[1] > before[1], "{to}: {before:?} {after:?}");
    assert_eq!(cluster.client().spread(to, 5).unwrap()["rs1"], 5);
    assert_eq!(exits(), after, "{to}");
}

#[test]
fn real_clients_are_served() {
    for (tier, mode, offloads) in
        [("native", "-m", Offloads::Off), ("tc", "-m", Offloads::On), ("native", "--fullnat", Offloads::Off)]
    {
        let cluster = Cluster::new(Layout { servers: 1, offloads, ..Layout::default() }).unwrap();
        cluster.director.sysctl(&["net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1"]).unwrap();
        for to in serve(&cluster, tier, mode, &[VIP, VIP6]) {
            serves(&cluster, to);
        }
        // The director is its own client: nobody else can be that.
        let challenged = cluster.director.exit("challenged").unwrap();
        assert_eq!(
            Client(&cluster.director).get(SocketAddr::new(VIP, 80), "/").unwrap().split(' ').next(),
            Some("rs1")
        );
        assert_eq!(cluster.director.exit("challenged").unwrap(), challenged);
    }
}

#[test]
fn direct_routing_needs_no_answer_to_pass_by() {
    for tier in ["native", "tc"] {
        let layout =
            Layout { arms: Arms::One, site: Site::BesideDirector, servers: 1, offloads: Offloads::Off, driver: None };
        let cluster = Cluster::new(layout).unwrap();
        for to in serve(&cluster, tier, "-g", &[VIP, VIP6]) {
            cluster.servers[0].lvsadm(&format!("real-server --dr --vip {}", to.ip())).unwrap();
            serves(&cluster, to);
        }
    }
}

/// A client behind a router that translates its address and drops what conntrack calls invalid.
#[test]
fn clients_behind_a_stateful_router_are_served() {
    let layout =
        Layout { arms: Arms::One, site: Site::BesideDirector, servers: 1, offloads: Offloads::Off, driver: None };
    let cluster = Cluster::new(layout).unwrap();
    let rules = "add table inet t; \
                 add chain inet t out { type nat hook postrouting priority 100 ; }; \
                 add rule inet t out iifname front masquerade; \
                 add chain inet t through { type filter hook forward priority 0 ; policy drop ; }; \
                 add rule inet t through ct state invalid counter drop; \
                 add rule inet t through ct state established,related accept; \
                 add rule inet t through iifname front ct state new accept";
    // What the switch passes on is not the router's.
    for family in ["iptables", "ip6tables"] {
        let setting = format!("net/bridge/bridge-nf-call-{family}");
        if Path::new("/proc/sys").join(&setting).exists() {
            cluster.router.sysctl(&[&format!("{setting}=0")]).unwrap();
        }
    }
    let nft = cluster.router.command("nft").arg(rules).status().unwrap();
    assert!(nft.success());
    for to in serve(&cluster, "native", "-g", &[VIP, VIP6]) {
        cluster.servers[0].lvsadm(&format!("real-server --dr --vip {}", to.ip())).unwrap();
        serves(&cluster, to);
    }
    let counted = cluster.router.run("nft list chain inet t through").unwrap();
    assert!(counted.contains("counter packets 0 bytes 0 drop"), "{counted}");
}

/// An IPv4 request from another source, the `number`th behind its own.
fn forged(request: &[u8], number: u32) -> Vec<u8> {
    let mut frame = request.to_vec();
    let change = checksum::difference(0, number.to_be());
    // The source, then the checksums that cover it: IP's, TCP's.
    for (at, byte) in (26..30).zip(number.to_be_bytes()) {
        frame[at] += byte;
    }
    for at in [24, 50] {
        let sum = checksum::update(u16::from_ne_bytes([frame[at], frame[at + 1]]), change);
        frame[at..at + 2].copy_from_slice(&sum.to_ne_bytes());
    }
    frame
}

#[test]
fn forged_requests_are_as_good_as_others() {
    let to = SocketAddr::new(VIP, 80);
    let from = |number| SocketAddr::new(Ipv4Addr::from(0x0b00_0000 + number).into(), 1024);
    let request = |number| frame::ethernet([2; 6], CLIENT_MAC, &packet(from(number), to, Flags::Syn, SEQUENCE));
    for number in [0, 1, 0x1234, 999_999] {
        assert_eq!(forged(&request(0), number), request(number));
    }
}

/// A million requests with forged sources, beside established connections and real clients.
#[test]
fn a_flood_of_forged_requests_opens_no_connection() {
    const FLOWS: usize = 1000;
    const FLOOD: u32 = 1_000_000;
    const ROUNDS: usize = 10;
    const RATE: usize = 20;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    assert!(most > 4096, "this process may have {most} files, which are too few");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let cluster = Cluster::new(Layout { servers: 1, offloads: Offloads::Off, ..Layout::default() }).unwrap();
    let (director, client) = (&cluster.director, &cluster.client);
    director.sysctl(&["net/ipv4/ip_forward=1"]).unwrap();
    let to = serve(&cluster, "native", "-m", &[VIP])[0];
    let mut sessions: Vec<Session> =
        (0..FLOWS).map(|_| Session::open(client, to, Origin::default()).unwrap()).collect();
    sessions.iter_mut().for_each(|session| assert_eq!(session.ask().unwrap(), "rs1"));
    director.lvsadm(&format!("sysctl synproxy_rate={RATE}")).unwrap();

    let mac = director.enter(|| Ok(fixtures::port("eth0")?.mac)).unwrap();
    let socket = PacketSocket::open(client, "eth0").unwrap();
    let began = Instant::now();
    let first = SocketAddr::new(Ipv4Addr::new(11, 0, 0, 0).into(), 1024);
    let request = frame::ethernet(mac, CLIENT_MAC, &packet(first, to, Flags::Syn, SEQUENCE));
    let mut flood = (0..FLOOD).map(|number| forged(&request, number));
    for round in 0..ROUNDS {
        // Some of it before each request, so that nothing waits for a pause.
        for session in &mut sessions {
            flood.by_ref().take(FLOOD as usize / ROUNDS / FLOWS).for_each(|frame| socket.send(&frame).unwrap());
            assert_eq!(session.ask().unwrap(), "rs1", "round {round}");
        }
        assert_eq!(Session::open(client, to, Origin::default()).unwrap().ask_once().unwrap(), "rs1", "round {round}");
    }
    let seconds = began.elapsed().as_secs() as usize + 2;
    let challenged = director.exit("challenged").unwrap();
    let opened = director.json("-L --stats --json").unwrap()[0]["statistics"]["connections"].as_u64().unwrap() as usize;
    assert!(opened <= FLOWS + ROUNDS + RATE * seconds, "{opened} opened in {seconds} s");
    // What the device's queue had no room for never came.
    assert!(challenged > u64::from(FLOOD) / 2, "{challenged} challenged");
    assert_eq!(director.exit("drop-table-full").unwrap(), 0);
}
