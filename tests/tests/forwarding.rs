//! HTTP and UDP through a director: every mode, in both families, by each tier, with and without offloads.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::topology::{Arms, Cluster, Layout, Offloads, PacketSocket, Server, Site, VIP, VIP6};

/// A forwarding mode.
#[derive(Clone, Copy)]
struct Mode {
    site: Site,
    /// Options of `lvsadm -a`.
    option: &'static str,
    /// What real servers run, without `--vip …`; nothing for NAT.
    real_server: &'static str,
}

/// The director's addresses in the real servers' network.
const LOCALS: [&str; 2] = ["192.168.122.100", "2001:db8:b::100"];

const NAT: Mode = Mode { site: Site::BehindDirector, option: "-m", real_server: "" };
const DR: Mode = Mode { site: Site::BesideDirector, option: "-g", real_server: "--dr" };
const FULLNAT: Mode = Mode { site: Site::Remote, option: "--fullnat", real_server: "" };
const IPIP: Mode = Mode { site: Site::Remote, option: "-i", real_server: "--tun" };
const GUE: Mode = gue("-i --tun-type gue --tun-port 6080");
const GUE_CSUM: Mode = gue("-i --tun-type gue --tun-port 6080 --tun-csum");
const GUE_REMCSUM: Mode = gue("-i --tun-type gue --tun-port 6080 --tun-remcsum");
const GRE: Mode = gre("-i --tun-type gre");
const GRE_CSUM: Mode = gre("-i --tun-type gre --tun-csum");
const VXLAN: Mode =
    Mode { site: Site::Remote, option: "-i --tun-type vxlan --tun-port 4789", real_server: "--tun --tun-type vxlan" };

impl Mode {
    /// Whether real servers answer the director itself.
    fn is_fullnat(self) -> bool {
        self.option == FULLNAT.option
    }
}

const fn gue(option: &'static str) -> Mode {
    Mode { site: Site::Remote, option, real_server: "--tun --tun-type gue --tun-port 6080" }
}

const fn gre(option: &'static str) -> Mode {
    Mode { site: Site::Remote, option, real_server: "--tun --tun-type gre" }
}

/// See [`TIERS`].
type Tier = (&'static str, Offloads);

/// What carries the packets, and what the devices do for their hosts. Native XDP cannot see that a checksum is
/// unfinished, so it is only for frames as on a wire.
const TIERS: [Tier; 4] =
    [("native", Offloads::Off), ("generic", Offloads::Off), ("tc", Offloads::Off), ("tc", Offloads::On)];

/// Bytes of a transfer that takes many packets.
const LONG: usize = 300_000;

/// A director with one service in each family and `SERVERS` real servers.
struct Balanced {
    cluster: Cluster,
    mode: Mode,
    arms: Arms,
}

const SERVERS: usize = 2;

impl Balanced {
    /// `crossed` puts IPv6 servers behind the IPv4 address and the other way round.
    fn new(mode: Mode, arms: Arms, crossed: bool) -> Result<Self> {
        let layout = Layout { arms, site: mode.site, servers: SERVERS, ..Layout::default() };
        let cluster = Cluster::new(layout)?;
        if mode.site == Site::BehindDirector {
            cluster.director.sysctl(&["net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1"])?;
        }
        if !mode.real_server.is_empty() {
            for server in &cluster.servers {
                server.lvsadm(&format!("real-server {} --vip {VIP} {VIP6}", mode.real_server))?;
            }
        }
        let balanced = Balanced { cluster, mode, arms };
        if mode.is_fullnat() {
            for local in LOCALS {
                balanced.cluster.director.lvsadm(&format!("--add-laddr -z {local}"))?;
            }
        }
        for vip in [VIP, VIP6] {
            for (option, port) in [("-t", 80), ("-u", 53)] {
                balanced.add_service(option, SocketAddr::new(vip, port), mode, crossed)?;
            }
        }
        Ok(balanced)
    }

    /// Has another tier carry the packets from now on, and counts anew.
    fn carry_by(&self, (tier, offloads): Tier) -> Result<()> {
        self.cluster.set_offloads(offloads)?;
        self.cluster.director.lvsadm(&format!("attach --mode {tier}"))?;
        self.cluster.director.lvsadm("-Z").map(drop)
    }

    fn add_service(&self, kind: &str, service: SocketAddr, mode: Mode, crossed: bool) -> Result<()> {
        let director = &self.cluster.director;
        director.lvsadm(&format!("-A {kind} {service} -s rr"))?;
        for number in 1..=SERVERS {
            let (v4, v6) = self.cluster.server_addresses(number);
            let server = if service.is_ipv4() != crossed { v4 } else { v6 };
            let server = SocketAddr::new(server, service.port());
            director.lvsadm(&format!("-a {kind} {service} -r {server} {}", mode.option))?;
        }
        Ok(())
    }

    /// The client's address, as servers must see it.
    fn client(&self, vip: IpAddr) -> &'static str {
        match (self.arms, vip) {
            // Who does not read the packets' option sees the director.
            (_, IpAddr::V4(_)) if self.mode.is_fullnat() => LOCALS[0],
            (_, IpAddr::V6(_)) if self.mode.is_fullnat() => LOCALS[1],
            (_, IpAddr::V6(_)) => "2001:db8:a::1",
            (Arms::One, _) => "10.20.0.1",
            (Arms::Two, _) => "10.10.10.1",
        }
    }

    /// Short and long transfers in both directions, evenly spread.
    fn serves_http(&self, vip: IpAddr) -> Result<()> {
        let (client, service) = (self.cluster.client(), SocketAddr::new(vip, 80));
        let answer = client.get(service, "/").context("the first request")?;
        ensure!(answer.contains(&format!(" {} ", self.client(vip))), "the server saw another client: {answer}");
        let spread = client.spread(service, 6)?;
        let even: BTreeMap<String, usize> = (1..=SERVERS).map(|n| (format!("rs{n}"), 6 / SERVERS)).collect();
        ensure!(spread == even, "not evenly spread: {spread:?}");
        let long = client.get(service, &format!("/bytes/{LONG}")).context("a long answer")?;
        ensure!(long.len() == LONG, "{} of {LONG} bytes came", long.len());
        let answer = client.post(service, LONG).context("a long request")?;
        ensure!(answer.trim_end().ends_with(&format!(" {LONG}")), "not all of the request came: {answer}");
        Ok(())
    }

    /// Datagrams that fit any tunnel, from sockets that take answers from the virtual address only.
    fn serves_udp(&self, mode: Mode, vip: IpAddr, crossed: bool) -> Result<()> {
        let mut servers = Vec::new();
        for (index, namespace) in self.cluster.servers.iter().enumerate() {
            let (v4, v6) = self.cluster.server_addresses(index + 1);
            let own = if vip.is_ipv4() != crossed { v4 } else { v6 };
            let address = if mode.real_server.is_empty() { own } else { vip };
            servers.push(Server::udp(namespace, address, 53, "rs")?);
        }
        for length in [1, 100, 1200] {
            let answer = self.cluster.client().datagram(SocketAddr::new(vip, 53), length)?;
            ensure!(answer == format!("rs {} {length}\n", self.client(vip)), "a wrong answer: {answer}");
        }
        Ok(())
    }

    /// What the director counted for a service: connections, packets in, packets out.
    fn counted(&self, service: SocketAddr) -> Result<[u64; 3]> {
        let text = self.cluster.director.lvsadm("-Ln --stats --exact")?;
        let line = text.lines().find(|line| line.split_whitespace().nth(1) == Some(&service.to_string()));
        let line = line.with_context(|| format!("no {service} in {text}"))?;
        let numbers: Result<Vec<u64>, _> = line.split_whitespace().skip(2).map(str::parse).collect();
        let numbers = numbers?;
        Ok([numbers[0], numbers[1], numbers[2]])
    }
}

/// Checks a mode with one director, which is attached in one way after the other.
fn check(mode: Mode, arms: Arms, tiers: &[Tier], crossed: bool) -> Result<()> {
    let balanced = Balanced::new(mode, arms, crossed)?;
    tiers.iter().try_for_each(|tier| {
        balanced.carry_by(*tier)?;
        check_traffic(&balanced, mode, crossed).with_context(|| format!("{tier:?}"))
    })
}

fn check_traffic(balanced: &Balanced, mode: Mode, crossed: bool) -> Result<()> {
    for vip in [VIP, VIP6] {
        balanced.serves_http(vip).with_context(|| format!("HTTP to {vip}"))?;
        balanced.serves_udp(mode, vip, crossed).with_context(|| format!("UDP to {vip}"))?;
        // One request, six, a long answer and a long request; each packet once, whichever tier it took.
        let [connections, incoming, outgoing] = balanced.counted(SocketAddr::new(vip, 80))?;
        ensure!(connections == 9, "{connections} connections counted, not 9");
        ensure!(incoming >= 9 * 4, "only {incoming} packets counted");
        let passes_by = mode.site != Site::BehindDirector && !mode.is_fullnat();
        // What the director itself tells the client of a packet too big for the tunnel counts as a reply, as for IPVS.
        let most = if passes_by { incoming / 9 } else { u64::MAX };
        ensure!((outgoing > 0 || passes_by) && outgoing <= most, "{outgoing} packets of replies counted");
        let [connections, incoming, _] = balanced.counted(SocketAddr::new(vip, 53))?;
        ensure!((connections, incoming) == (3, 3), "{connections} connections and {incoming} packets for 3 datagrams");
    }
    Ok(())
}

/// One test for each mode, so that each has its name in the results.
macro_rules! modes {
    ($($name:ident: $mode:expr),* $(,)?) => { $(#[test] fn $name() { check($mode, Arms::Two, &TIERS, false).unwrap(); })* };
}

modes! {
    nat: NAT,
    fullnat: FULLNAT,
    direct_routing: DR,
    tunnel_ipip: IPIP,
    tunnel_gue: GUE,
    tunnel_gue_with_checksum: GUE_CSUM,
    tunnel_gue_with_remote_checksum: GUE_REMCSUM,
    tunnel_gre: GRE,
    tunnel_gre_with_checksum: GRE_CSUM,
    tunnel_vxlan: VXLAN,
}

#[test]
fn tunnels_carry_the_other_family() {
    for (name, mode) in [("ipip", IPIP), ("gue", GUE), ("gre", GRE), ("vxlan", VXLAN)] {
        check(mode, Arms::Two, &TIERS, true).unwrap_or_else(|error| panic!("{name}: {error:#}"));
    }
}

#[test]
fn one_armed() {
    for (name, mode) in [("nat", NAT), ("dr", DR), ("ipip", IPIP)] {
        check(mode, Arms::One, &[TIERS[0], TIERS[3]], false).unwrap_or_else(|error| panic!("{name}: {error:#}"));
    }
}

/// A mode is defined by what a real server gets to see: the frame of the first request.
#[test]
fn frames_at_the_real_server() {
    let cases = [("nat", NAT, "192.168.122.101"), ("dr", DR, "10.10.10.10"), ("ipip", IPIP, "192.168.123.101")];
    for (name, mode, destination) in cases {
        let balanced = Balanced::new(mode, Arms::Two, false).unwrap();
        let destination: std::net::Ipv4Addr = destination.parse().unwrap();
        for tier in TIERS {
            balanced.carry_by(tier).unwrap();
            let server = &balanced.cluster.servers[0];
            let wire = PacketSocket::open(server, "eth0").unwrap();
            balanced.cluster.client().spread(SocketAddr::new(VIP, 80), SERVERS).unwrap();
            let is_request = |frame: &[u8]| {
                frame.len() >= 34 && frame[12..14] == [8, 0] && frame[30..34] == destination.octets() && frame[23] != 1
            };
            let frame = wire.receive(Duration::from_secs(2), is_request).unwrap();
            let frame = frame.unwrap_or_else(|| panic!("{name} {tier:?}: no packet for {destination}"));
            let source: &[u8] = if mode.site == Site::Remote { &[192, 168, 122, 100] } else { &[10, 10, 10, 1] };
            assert_eq!(&frame[26..30], source, "{name} {tier:?}: source address");
            // The client's hop limit less one for the director; the router's is off the tunnel packet.
            assert_eq!(frame[if mode.site == Site::Remote { 42 } else { 22 }], 63, "{name} {tier:?}: TTL");
        }
    }
}
