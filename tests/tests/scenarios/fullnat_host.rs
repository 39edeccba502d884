//! Local addresses that the director itself has: it goes on using them.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use anyhow::Result;
use serde_json::Value;
use tests::eventually;
use tests::fixtures::frame::{self, TCP};
use tests::fixtures::{CLIENT_MAC, port};
use tests::topology::{Client, Cluster, Layout, Offloads, PacketSocket, Server, Site, VIP, VIP6};

/// Ports that FullNAT may give out, and those that the host keeps.
const PORTS: Range<u16> = 29_900..31_100;
const HOSTS: Range<u16> = 30_000..31_000;

/// A service and its real server, toward which the director has one address of its own.
struct Stage {
    cluster: Cluster,
    service: SocketAddr,
    real: SocketAddr,
    local: IpAddr,
    wire: PacketSocket,
    mac: [u8; 6],
}

impl Stage {
    fn new(v6: bool) -> Result<Self> {
        let layout = Layout { site: Site::Remote, servers: 1, offloads: Offloads::Off, ..Layout::default() };
        let cluster = Cluster::new(layout)?;
        let (real4, real6) = cluster.server_addresses(1);
        let (vip, real, local) = if v6 { (VIP6, real6, "2001:db8:b::100") } else { (VIP, real4, "192.168.122.100") };
        let (service, real) = (SocketAddr::new(vip, 80), SocketAddr::new(real, 80));
        let wire = PacketSocket::open(&cluster.client, "eth0")?;
        let mac = cluster.director.enter(|| Ok(port("eth0")?.mac))?;
        let stage = Stage { cluster, service, real, local: local.parse()?, wire, mac };
        stage.keep(HOSTS)?;
        for command in [
            format!("sysctl lport_min={} lport_max={}", PORTS.start, PORTS.end - 1),
            format!("-A -t {service} -s rr"),
            format!("-a -t {service} -r {real} --fullnat"),
            format!("--add-laddr -z {local}"),
        ] {
            stage.cluster.director.lvsadm(&command)?;
        }
        Ok(stage)
    }

    /// The director keeps these ports for connections of its own.
    fn keep(&self, ports: Range<u16>) -> Result<()> {
        self.cluster.director.sysctl(&[&format!("net/ipv4/ip_local_port_range={} {}", ports.start, ports.end - 1)])
    }

    /// More clients ask than there are ports, at an address that nobody has: the local ports that they got, in order.
    fn fill(&self) -> Vec<u16> {
        let refused = || self.cluster.director.exit("drop-no-port").unwrap();
        let before = refused();
        for number in 0..PORTS.len() as u16 {
            let client: IpAddr = if self.local.is_ipv6() { "2001:db8:a::66" } else { "10.10.10.66" }.parse().unwrap();
            let from = SocketAddr::new(client, 1000 + number);
            let segment = frame::tcp(from, self.service, true, b"");
            let packet = frame::ip(from.ip(), self.service.ip(), 0, 64, TCP, &segment);
            self.wire.send(&frame::ethernet(self.mac, CLIENT_MAC, &packet)).unwrap();
        }
        eventually("no port is left", || refused() > before);
        let port = |connection: &Value| {
            assert_eq!(connection["local"]["address"], self.local.to_string());
            connection["local"]["port"].as_u64().unwrap() as u16
        };
        let mut ports: Vec<u16> = self.cluster.director.connections().unwrap().iter().map(port).collect();
        ports.sort_unstable();
        ports
    }
}

/// The ports of one range that are not in another.
fn without(all: Range<u16>, kept: &Range<u16>) -> Vec<u16> {
    all.filter(|port| !kept.contains(port)).collect()
}

#[test]
fn the_host_keeps_its_ports() {
    for v6 in [false, true] {
        let stage = Stage::new(v6).unwrap();
        let director = &stage.cluster.director;
        assert_eq!(stage.fill(), without(PORTS, &HOSTS));

        // While all of FullNAT's are in use, the director is a client of the same real server, from the same address...
        let own = Client(director);
        for _ in 0..3 {
            let answer = own.get(stage.real, "/").unwrap();
            assert_eq!(answer, format!("rs1 {} 0\n", stage.local));
        }
        assert_eq!(own.get(stage.real, "/bytes/100000").unwrap().into_bytes(), tests::text(100_000));
        // ... and a server there: at any port, also for the real server itself.
        for port in [8080, PORTS.start, PORTS.end - 1] {
            let _server = Server::http(director, port, "director").unwrap();
            let answer = Client(&stage.cluster.servers[0]).get(SocketAddr::new(stage.local, port), "/").unwrap();
            assert_eq!(answer, format!("director {} 0\n", stage.real.ip()));
        }

        // The host keeps others from now on: the next command takes notice.
        let others = PORTS.start..HOSTS.start;
        stage.keep(others.clone()).unwrap();
        director.lvsadm("-Ln").unwrap();
        director.lvsadm(&format!("drain -t {} -r {} --timeout 0 --reset", stage.service, stage.real)).unwrap();
        director.lvsadm(&format!("-e -t {} -r {} --fullnat -w 1", stage.service, stage.real)).unwrap();
        assert_eq!(stage.fill(), without(PORTS, &others));
    }
}
