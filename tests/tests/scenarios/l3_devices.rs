//! Devices without Ethernet headers (tun, as WireGuard, ppp and IP tunnels are): clients and real servers behind them, in every
//! forwarding mode.
//!
//! ```text
//!   near 10.1.0.1 ── 10.1.0.254 eth0 │ director │ tun0 10.2.0.254 ── 10.2.0.1 far
//!   near 10.3.0.1 ── 10.3.0.2 far: a cable, for answers that do not pass the director
//! ```
//!
//! IPv6 is alike: 2001:db8:1::1 and so on. The virtual addresses are on `lo` of the director.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use tests::topology::{
    Client, Fate, Namespace, Observer, Offloads, PacketSocket, Place, Server, Tunnel, connect, fresh_port,
};

const VIPS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 0x10))];
/// Bytes of a transfer that takes many packets.
const LONG: usize = 300_000;

/// Address of a host in network `number`; 254 is the director.
fn address(number: u16, host: u16, vip: IpAddr) -> IpAddr {
    match vip {
        IpAddr::V4(_) => Ipv4Addr::new(10, number as u8, 0, host as u8).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, number, 0, 0, 0, 0, host).into(),
    }
}

struct Lab {
    servers: Vec<Server>,
    director: Namespace,
    /// `near`, `far`.
    hosts: [Namespace; 2],
    _tunnel: Tunnel,
}

impl Lab {
    fn new() -> Result<Self> {
        let (director, hosts) = (Namespace::new("director")?, [Namespace::new("near")?, Namespace::new("far")?]);
        for host in hosts.iter().chain([&director]) {
            host.sysctl(&["net/ipv4/conf/all/rp_filter=0", "net/ipv4/conf/default/rp_filter=0"])?;
        }
        director.sysctl(&["net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1", "net/ipv4/icmp_ratelimit=0"])?;
        connect((&director, "eth0"), (&hosts[0], "eth0"), Offloads::On)?;
        connect((&hosts[0], "cable"), (&hosts[1], "cable"), Offloads::On)?;
        let tunnel = Tunnel::lay((&director, "tun0"), (&hosts[1], "tun0"))?;
        let mut servers = Vec::new();
        for vip in VIPS {
            let (length, flags) = if vip.is_ipv4() { (24, "") } else { (64, "nodad") };
            let add = |number, host, device: &str| {
                format!("addr add {}/{length} dev {device} {flags}", address(number, host, vip))
            };
            director.ip(&[add(1, 254, "eth0"), add(2, 254, "tun0")])?;
            hosts[0].ip(&[
                add(1, 1, "eth0"),
                add(3, 1, "cable"),
                format!("route replace default via {}", address(1, 254, vip)),
            ])?;
            let family = if vip.is_ipv4() { "-4" } else { "-6" };
            hosts[1].ip(&[add(2, 1, "tun0"), add(3, 2, "cable")])?;
            hosts[1].run(&format!("ip {family} route replace default dev tun0"))?;
            director.ip(&[format!("addr add {vip} dev lo {flags}")])?;
            for (host, number, name) in [(&hosts[0], 1, "near"), (&hosts[1], 2, "far"), (&director, 2, "director")] {
                let own = address(number, if name == "director" { 254 } else { 1 }, vip);
                servers.push(Server::udp(host, own, 53, name)?);
            }
        }
        for (host, name) in [(&hosts[0], "near"), (&hosts[1], "far")] {
            servers.push(Server::http(host, 80, name)?);
        }
        Ok(Lab { servers, director, hosts, _tunnel: tunnel })
    }

    /// Services of both families whose only real server is that host.
    fn serve(&self, number: u16, options: &str) -> Result<()> {
        for vip in VIPS {
            for (kind, port) in [("-t", 80), ("-u", 53)] {
                let service = SocketAddr::new(vip, port);
                let server = SocketAddr::new(address(number, 1, vip), port);
                self.director.lvsadm(&format!("-A {kind} {service} -s rr"))?;
                self.director.lvsadm(&format!("-a {kind} {service} -r {server} {options}"))?;
            }
        }
        Ok(())
    }

    /// The client is served by the other host, over TCP and UDP, in packets small, large and up to `most` bytes long. The server sees
    /// the client's address, or the director's.
    fn is_served(&self, client: usize, most: usize, seen: impl Fn(IpAddr) -> IpAddr) -> Result<()> {
        let server = ["far", "near"][client];
        for vip in VIPS {
            let (host, seen) = (Client(&self.hosts[client]), seen(vip));
            let web = SocketAddr::new(vip, 80);
            let long = host.get(web, &format!("/bytes/{LONG}")).with_context(|| format!("a long answer from {vip}"))?;
            ensure!(long.len() == LONG, "{vip}: {} of {LONG} bytes came", long.len());
            let answer = host.post(web, LONG).with_context(|| format!("a long request to {vip}"))?;
            ensure!(answer.trim_end() == format!("{server} {seen} {LONG}"), "{vip}: a wrong answer: {answer}");
            for length in [1, 1200, most] {
                let answer = host.datagram(SocketAddr::new(vip, 53), length)?;
                ensure!(answer == format!("{server} {seen} {length}\n"), "{vip}: a wrong answer: {answer}");
            }
        }
        Ok(())
    }

    /// Has a host answer for the virtual addresses, by the cable to the other one.
    fn answer_directly(&mut self, at: usize) -> Result<()> {
        let host = &self.hosts[at];
        for vip in VIPS {
            let (other, via) = (address(2 - at as u16, 1, vip), address(3, 1 + (1 - at) as u16, vip));
            let flags = if vip.is_ipv4() { "" } else { "nodad" };
            host.ip(&[format!("addr add {vip} dev lo {flags}"), format!("route add {other} via {via}")])?;
            self.servers.push(Server::udp(host, vip, 53, ["near", "far"][at])?);
        }
        Ok(())
    }
}

/// Where a client is, as a number of a host and of its network.
const CLIENTS: [(usize, u16); 2] = [(0, 1), (1, 2)];

#[test]
fn nat_and_fullnat_reach_clients_and_servers_without_ethernet() -> Result<()> {
    if !Tunnel::is_possible() {
        return Ok(());
    }
    let lab = Lab::new()?;
    for options in ["-m", "--fullnat"] {
        for (client, network) in CLIENTS {
            lab.director.lvsadm("-C")?;
            let other = 3 - network;
            let pool = |command: &str| {
                VIPS.iter().try_for_each(|vip| {
                    lab.director.lvsadm(&format!("{command} -z {}", address(other, 254, *vip))).map(drop)
                })
            };
            if options == "--fullnat" {
                pool("--add-laddr")?;
            }
            lab.serve(other, options)?;
            let seen = |vip| {
                address(if options == "-m" { network } else { other }, if options == "-m" { 1 } else { 254 }, vip)
            };
            lab.is_served(client, 4000, seen).with_context(|| format!("{options}, client {client}"))?;
            if options == "--fullnat" {
                lab.director.lvsadm("-C")?;
                pool("--del-laddr")?;
            }
        }
    }
    Ok(())
}

#[test]
fn direct_routing_reaches_clients_and_servers_without_ethernet() -> Result<()> {
    if !Tunnel::is_possible() {
        return Ok(());
    }
    for (client, network) in CLIENTS {
        let mut lab = Lab::new()?;
        lab.answer_directly(1 - client)?;
        lab.serve(3 - network, "-g")?;
        lab.is_served(client, 4000, |vip| address(network, 1, vip)).with_context(|| format!("client {client}"))?;
    }
    Ok(())
}

#[test]
fn tunnels_reach_clients_and_servers_without_ethernet() -> Result<()> {
    if !Tunnel::is_possible() {
        return Ok(());
    }
    let mut lab = Lab::new()?;
    lab.answer_directly(0)?;
    lab.hosts[0].lvsadm(&format!("real-server --tun --vip {} {}", VIPS[0], VIPS[1]))?;
    for options in ["-i", "-i --tun-type gre"] {
        lab.director.lvsadm("-C")?;
        lab.serve(1, options)?;
        lab.hosts[0].lvsadm(&format!(
            "real-server --tun {} --vip {} {}",
            if options == "-i" { "" } else { "--tun-type gre" },
            VIPS[0],
            VIPS[1]
        ))?;
        lab.is_served(1, 1300, |vip| address(2, 1, vip)).context(options)?;
    }
    // What comes to a server without Ethernet headers is the outer packet.
    let lab = Lab::new()?;
    for (options, protocol, overhead) in [("-i", [4, 41], 0), ("-i --tun-type gre", [47, 47], 4)] {
        lab.director.lvsadm("-C")?;
        lab.serve(2, options)?;
        for (vip, protocol) in VIPS.into_iter().zip(protocol) {
            let wire = PacketSocket::open(&lab.hosts[1], "tun0")?;
            let is_outer = |packet: &[u8]| {
                let (at, length) = if vip.is_ipv4() { (9, 20) } else { (6, 40) };
                let inner = packet.get(length + overhead);
                packet[at] == protocol && inner.is_some_and(|first| first >> 4 == if vip.is_ipv4() { 4 } else { 6 })
            };
            lab.hosts[0].enter(|| {
                let socket = UdpSocket::bind((if vip.is_ipv4() { "0.0.0.0" } else { "::" }, fresh_port()))?;
                Ok(socket.send_to(&[0; 100], (vip, 53))?)
            })?;
            ensure!(wire.receive(Duration::from_secs(5), is_outer)?.is_some(), "{options}: no packet of {vip} came");
        }
    }
    Ok(())
}

#[test]
fn the_directors_own_packets_go_and_come_without_ethernet() -> Result<()> {
    if !Tunnel::is_possible() {
        return Ok(());
    }
    let lab = Lab::new()?;
    lab.serve(2, "-m")?;
    for vip in VIPS {
        // It asks, and is asked.
        let answer = Client(&lab.director).datagram(SocketAddr::new(vip, 53), 100)?;
        ensure!(answer == format!("far {vip} 100\n"), "{answer}");
        let service = SocketAddr::new(vip, 54);
        lab.director.lvsadm(&format!("-A -u {service}"))?;
        let own = SocketAddr::new(address(2, 254, vip), 53);
        lab.director.lvsadm(&format!("-a -u {service} -r {own} -m"))?;
        let answer = Client(&lab.hosts[1]).datagram(service, 100)?;
        ensure!(answer == format!("director {} 100\n", address(2, 1, vip)), "{answer}");
    }
    Ok(())
}

#[test]
fn errors_of_the_directors_own_reach_clients_without_ethernet() -> Result<()> {
    if !Tunnel::is_possible() {
        return Ok(());
    }
    let lab = Lab::new()?;
    lab.serve(1, "-m")?;
    lab.director.lvsadm(&format!("-A -u {}", SocketAddr::new(VIPS[0], 55)))?;
    lab.director.lvsadm(&format!("-A -u {}", SocketAddr::new(VIPS[1], 55)))?;
    let client = Client(&lab.hosts[1]);
    for vip in VIPS {
        let fate = client.probe(SocketAddr::new(vip, 53), 1, 100)?;
        ensure!(matches!(fate, Fate::Reported { error: Errno::EHOSTUNREACH, .. }), "TTL of 1: {fate:?}");
        // No real server.
        let fate = client.probe(SocketAddr::new(vip, 55), 64, 100)?;
        ensure!(matches!(fate, Fate::Reported { error: Errno::ECONNREFUSED, .. }), "no real server: {fate:?}");
    }
    Ok(())
}

#[test]
fn what_is_not_balanced_is_left_as_it_came() -> Result<()> {
    if !Tunnel::is_possible() {
        return Ok(());
    }
    let lab = Lab::new()?;
    lab.serve(1, "-m")?;
    let places = [Place::LastIngress, Place::LastEgress];
    let observers = places.map(|place| Observer::attach(&lab.director, "tun0", place));
    let observers = observers.into_iter().collect::<Result<Vec<_>>>()?;
    // Routed, to the director itself, and to another port of a virtual address.
    for to in ["10.1.0.1", "10.2.0.254", "192.0.2.10"] {
        lab.hosts[1].run(&format!("ping -c 1 -W 5 {to}"))?;
    }
    let _other = Server::udp(&lab.director, VIPS[0], 56, "director")?;
    let answer = Client(&lab.hosts[1]).datagram(SocketAddr::new(VIPS[0], 56), 100)?;
    ensure!(answer == "director 10.2.0.1 100\n", "{answer}");
    for observer in &observers {
        ensure!(observer.count()? >= 4, "other programs do not see it");
    }
    Ok(())
}

#[test]
fn how_such_devices_are_attached() -> Result<()> {
    if !Tunnel::is_possible() {
        return Ok(());
    }
    let lab = Lab::new()?;
    lab.serve(1, "-m")?;
    let status = lab.director.lvsadm("status")?;
    let line = status.lines().find(|line| line.starts_with("tun0 ")).context("tun0 is not attached")?;
    ensure!(line.contains(" tc ") && line.contains("have no Ethernet headers"), "{line}");
    let refused =
        lab.director.lvsadm("attach --dev tun0 --mode native").err().context("XDP without Ethernet headers")?;
    ensure!(format!("{refused:#}").contains("cannot attach to tun0: XDP needs Ethernet headers"), "{refused:#}");
    // A real server's tunnels come to Ethernet.
    let refused =
        lab.hosts[1].lvsadm(&format!("real-server --tun --vip {} --dev tun0", VIPS[0])).err().context("tun0")?;
    ensure!(
        format!("{refused:#}").contains("cannot open tunnels on tun0: its packets have no Ethernet header"),
        "{refused:#}"
    );
    lab.director.lvsadm("detach --dev tun0")?;
    ensure!(!lab.director.lvsadm("status")?.contains("tun0"), "tun0 is detached");
    lab.director.lvsadm("attach --dev tun0")?;
    lab.is_served(1, 4000, |vip| address(2, 1, vip))
}
