//! A director with a web and a name service in each family, and whether it serves them in some mode: what the scenarios of
//! forwarding are made of.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};

use crate::text;
use crate::topology::{Arms, Cluster, Driver, Layout, Offloads, Server, Site, TRUNK, VIP, VIP6};

/// What a service is of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Tcp,
    Udp,
}

/// A forwarding mode.
#[derive(Clone, Copy)]
pub struct Mode {
    /// Where its real servers are.
    pub site: Site,
    /// Options of `lvsadm -a`.
    pub option: &'static str,
    /// What real servers run, without `--vip …`; nothing for NAT.
    pub real_server: &'static str,
}

/// The director's addresses in the real servers' network.
const LOCALS: [&str; 2] = ["192.168.122.100", "2001:db8:b::100"];

/// NAT.
pub const NAT: Mode = Mode { site: Site::BehindDirector, option: "-m", real_server: "" };
/// Direct routing.
pub const DR: Mode = Mode { site: Site::BesideDirector, option: "-g", real_server: "--dr" };
/// FullNAT.
pub const FULLNAT: Mode = Mode { site: Site::Remote, option: "--fullnat", real_server: "" };
/// FullNAT, of whose clients real servers are told.
pub const FULLNAT_TOA: Mode = Mode { real_server: "--toa --trust 192.168.122.100 2001:db8:b::100", ..FULLNAT };
/// IP in IP.
pub const IPIP: Mode = Mode { site: Site::Remote, option: "-i", real_server: "--tun" };
/// GUE.
pub const GUE: Mode = gue("-i --tun-type gue --tun-port 6080");
/// GUE with a checksum over all.
pub const GUE_CSUM: Mode = gue("-i --tun-type gue --tun-port 6080 --tun-csum");
/// GUE with remote checksum offload.
pub const GUE_REMCSUM: Mode = gue("-i --tun-type gue --tun-port 6080 --tun-remcsum");
/// GRE.
pub const GRE: Mode = gre("-i --tun-type gre");
/// GRE with a checksum.
pub const GRE_CSUM: Mode = gre("-i --tun-type gre --tun-csum");
/// VXLAN.
pub const VXLAN: Mode =
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
pub type Tier = (&'static str, Offloads);

/// What carries the packets, and what the devices do for their hosts. Native XDP cannot see that a checksum is
/// unfinished, so it is only for frames as on a wire.
pub const TIERS: [Tier; 4] =
    [("native", Offloads::Off), ("generic", Offloads::Off), ("tc", Offloads::Off), ("tc", Offloads::On)];

/// Bytes of a transfer that takes many packets.
const LONG: usize = 300_000;

/// A director with one service in each family and `SERVERS` real servers.
pub struct Balanced {
    /// Its network.
    pub cluster: Cluster,
    mode: Mode,
    arms: Arms,
    crossed: bool,
}

/// How many real servers there are.
pub const SERVERS: usize = 2;

impl Balanced {
    /// `crossed` puts IPv6 servers behind the IPv4 address and the other way round.
    pub fn new(mode: Mode, arms: Arms, crossed: bool) -> Result<Self> {
        Self::on(mode, arms, crossed, None)
    }

    /// The same; the director's devices are of a driver, if one is named.
    pub fn on(mode: Mode, arms: Arms, crossed: bool, driver: Option<Driver>) -> Result<Self> {
        let layout = Layout { arms, site: mode.site, servers: SERVERS, driver, ..Layout::default() };
        let cluster = Cluster::new(layout)?;
        if mode.site == Site::BehindDirector {
            cluster.director.sysctl(&["net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1"])?;
        }
        for server in &cluster.servers {
            match mode.real_server {
                "" => {}
                _ if mode.is_fullnat() => drop(server.lvsadm(&format!("real-server {}", mode.real_server))?),
                _ => drop(server.lvsadm(&format!("real-server {} --vip {VIP} {VIP6}", mode.real_server))?),
            }
        }
        let balanced = Balanced { cluster, mode, arms, crossed };
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

    /// Its mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Has another tier carry the packets from now on, and counts anew.
    pub fn carry_by(&self, (tier, offloads): Tier) -> Result<()> {
        self.cluster.set_offloads(offloads)?;
        let director = &self.cluster.director;
        match self.arms {
            // VLAN devices have no XDP.
            Arms::Trunk => {
                director.lvsadm(&format!("attach --mode {tier} --dev {TRUNK}"))?;
                director.lvsadm("attach --mode tc --dev eth0 --dev eth1")?;
            }
            _ => drop(director.lvsadm(&format!("attach --mode {tier}"))?),
        }
        director.lvsadm("-Z").map(drop)
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
    fn client(&self, vip: IpAddr, protocol: Protocol) -> &'static str {
        let is_hidden = self.mode.is_fullnat() && (self.mode.real_server.is_empty() || protocol == Protocol::Udp);
        match (self.arms, vip) {
            // Who does not read the packets' option sees the director.
            (_, vip) if is_hidden => LOCALS[usize::from(vip.is_ipv4() == self.crossed)],
            (_, IpAddr::V6(_)) => "2001:db8:a::1",
            (Arms::One, _) => "10.20.0.1",
            _ => "10.10.10.1",
        }
    }

    /// Both services are served in both families, and counted right.
    pub fn serves(&self, mode: Mode, crossed: bool) -> Result<()> {
        for vip in [VIP, VIP6] {
            self.serves_http(vip).with_context(|| format!("HTTP to {vip}"))?;
            self.serves_udp(mode, vip, crossed).with_context(|| format!("UDP to {vip}"))?;
            // One request, six, a long answer and a long request; each packet once, whichever tier it took.
            let [connections, incoming, outgoing] = self.counted(SocketAddr::new(vip, 80))?;
            ensure!(connections == 9, "{connections} connections counted, not 9");
            ensure!(incoming >= 9 * 4, "only {incoming} packets counted");
            let passes_by = mode.site != Site::BehindDirector && !mode.is_fullnat();
            // What the director itself tells the client of a packet too big for the tunnel counts as a reply, as for IPVS.
            let most = if passes_by { incoming / 9 } else { u64::MAX };
            ensure!((outgoing > 0 || passes_by) && outgoing <= most, "{outgoing} packets of replies counted");
            let [connections, incoming, _] = self.counted(SocketAddr::new(vip, 53))?;
            ensure!(
                (connections, incoming) == (3, 3),
                "{connections} connections and {incoming} packets for 3 datagrams"
            );
        }
        Ok(())
    }

    /// Short and long transfers in both directions, evenly spread.
    fn serves_http(&self, vip: IpAddr) -> Result<()> {
        let (client, service) = (self.cluster.client(), SocketAddr::new(vip, 80));
        let answer = client.get(service, "/").context("the first request")?;
        ensure!(
            answer.contains(&format!(" {} ", self.client(vip, Protocol::Tcp))),
            "the server saw another client: {answer}"
        );
        let spread = client.spread(service, 6)?;
        let even: BTreeMap<String, usize> = (1..=SERVERS).map(|n| (format!("rs{n}"), 6 / SERVERS)).collect();
        ensure!(spread == even, "not evenly spread: {spread:?}");
        let long = client.get(service, &format!("/bytes/{LONG}")).context("a long answer")?;
        ensure!(long.into_bytes() == text(LONG), "a long answer is not what was sent");
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
            let address = if mode.real_server.is_empty() || mode.is_fullnat() { own } else { vip };
            servers.push(Server::udp(namespace, address, 53, "rs")?);
        }
        for length in [1, 100, 1200] {
            let answer = self.cluster.client().datagram(SocketAddr::new(vip, 53), length)?;
            ensure!(answer == format!("rs {} {length}\n", self.client(vip, Protocol::Udp)), "a wrong answer: {answer}");
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
pub fn check(mode: Mode, arms: Arms, tiers: &[Tier], crossed: bool) -> Result<()> {
    let balanced = Balanced::new(mode, arms, crossed)?;
    tiers.iter().try_for_each(|tier| {
        balanced.carry_by(*tier)?;
        balanced.serves(mode, crossed).with_context(|| format!("{tier:?}"))
    })
}
