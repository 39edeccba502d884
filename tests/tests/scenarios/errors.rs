//! What clients are told: errors of the director's own, and those of routers and real servers behind it.
//!
//! ```text
//!   client 10.10.10.1 ── .254 director 192.168.122.100 ── .1 router 192.168.123.1 ── .101 server
//! ```
//!
//! IPv6 is alike: 2001:db8:a::, b:: and c::. The virtual addresses are on the director's `lo`.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use tests::text;
use tests::topology::{
    Client, Cluster, Fate, Layout, Namespace, Offloads, Server, Site, VIP, VIP6, connect, set_offloads,
};

/// How packets are carried, and what devices do for their hosts.
const TIERS: [(&str, Offloads); 3] = [("native", Offloads::Off), ("tc", Offloads::Off), ("tc", Offloads::On)];

/// Services: a live one, one whose server's port is closed, one without servers.
const LIVE: u16 = 53;
const CLOSED: u16 = 54;
const EMPTY: u16 = 55;

/// What a destination is added with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Nat,
    FullNat,
    /// FullNAT to a real server of the other family.
    Crossed,
}

const MODES: [Mode; 3] = [Mode::Nat, Mode::FullNat, Mode::Crossed];

impl Mode {
    /// Options of `lvsadm -a`.
    fn option(self) -> &'static str {
        match self {
            Mode::Nat => "-m",
            Mode::FullNat | Mode::Crossed => "--fullnat",
        }
    }

    /// Who asks, to the real server.
    fn client(self, vip: IpAddr) -> &'static str {
        match (self, vip) {
            (Mode::Nat, IpAddr::V4(_)) => "10.10.10.1",
            (Mode::Nat, IpAddr::V6(_)) => "2001:db8:a::1",
            (Mode::FullNat, IpAddr::V4(_)) | (Mode::Crossed, IpAddr::V6(_)) => "192.168.122.100",
            (Mode::FullNat, IpAddr::V6(_)) | (Mode::Crossed, IpAddr::V4(_)) => "2001:db8:b::100",
        }
    }

    /// The real server.
    fn real(self, vip: IpAddr) -> IpAddr {
        let real = if vip.is_ipv4() != (self == Mode::Crossed) { "192.168.123.101" } else { "2001:db8:c::101" };
        real.parse().expect("an address")
    }

    /// The longest of the client's packets where the real server's may have 1500 bytes.
    fn longest(self, vip: IpAddr) -> u32 {
        match (self, vip) {
            (Mode::Nat | Mode::FullNat, _) => 1500,
            (Mode::Crossed, IpAddr::V4(_)) => 1480,
            (Mode::Crossed, IpAddr::V6(_)) => 1520,
        }
    }
}

/// A director in the middle of a chain.
struct Chain {
    _servers: Vec<Server>,
    hosts: [Namespace; 4],
}

impl Chain {
    fn new(mode: Mode) -> Result<Self> {
        let new = Namespace::new;
        let hosts = [new("client")?, new("director")?, new("router")?, new("server")?];
        let [client, director, router, server] = &hosts;
        connect((client, "eth0"), (director, "eth0"), Offloads::On)?;
        connect((director, "eth1"), (router, "eth0"), Offloads::On)?;
        connect((router, "eth1"), (server, "eth0"), Offloads::On)?;
        for host in [director, router] {
            host.sysctl(&[
                "net/ipv4/ip_forward=1",
                "net/ipv6/conf/all/forwarding=1",
                // Every error is told.
                "net/ipv4/icmp_ratelimit=0",
                "net/ipv6/icmp/ratelimit=0",
            ])?;
        }
        server.sysctl(&["net/ipv4/icmp_ratelimit=0", "net/ipv6/icmp/ratelimit=0"])?;
        client.ip(&[
            "addr add 10.10.10.1/24 dev eth0",
            "addr add 2001:db8:a::1/64 dev eth0 nodad",
            "route add default via 10.10.10.254",
            "route add default via 2001:db8:a::fe",
            // The director answers neighbour discovery for addresses of its own device only.
            "route add 2001:db8:a::10/128 via 2001:db8:a::fe",
        ])?;
        director.ip(&[
            "addr add 10.10.10.254/24 dev eth0",
            "addr add 2001:db8:a::fe/64 dev eth0 nodad",
            "addr add 10.10.10.10/32 dev lo",
            "addr add 2001:db8:a::10/128 dev lo nodad",
            "addr add 192.168.122.100/24 dev eth1",
            "addr add 2001:db8:b::100/64 dev eth1 nodad",
            "route add default via 192.168.122.1",
            "route add default via 2001:db8:b::1",
        ])?;
        router.ip(&[
            "addr add 192.168.122.1/24 dev eth0",
            "addr add 2001:db8:b::1/64 dev eth0 nodad",
            "addr add 192.168.123.1/24 dev eth1",
            "addr add 2001:db8:c::1/64 dev eth1 nodad",
            "route add default via 192.168.122.100",
            "route add default via 2001:db8:b::100",
        ])?;
        server.ip(&[
            "addr add 192.168.123.101/24 dev eth0",
            "addr add 2001:db8:c::101/64 dev eth0 nodad",
            "route add default via 192.168.123.1",
            "route add default via 2001:db8:c::1",
        ])?;
        let mut servers = vec![Server::http(server, LIVE, "server")?];
        for vip in [VIP, VIP6] {
            let real = mode.real(vip);
            if mode != Mode::Nat {
                director.lvsadm(&format!("--add-laddr -z {}", mode.client(vip)))?;
            }
            servers.push(Server::udp(server, real, LIVE, "server")?);
            for (kind, port) in ["-t", "-u"].into_iter().flat_map(|kind| [LIVE, CLOSED, EMPTY].map(|port| (kind, port)))
            {
                let service = SocketAddr::new(vip, port);
                director.lvsadm(&format!("-A {kind} {service} -s rr"))?;
                if port != EMPTY {
                    let real = SocketAddr::new(real, port);
                    director.lvsadm(&format!("-a {kind} {service} -r {real} {}", mode.option()))?;
                }
            }
        }
        Ok(Chain { _servers: servers, hosts })
    }

    fn client(&self) -> Client<'_> {
        Client(&self.hosts[0])
    }

    /// Checks with every tier in turn, for both families.
    fn each(&self, check: impl Fn(IpAddr) -> Result<()>) -> Result<()> {
        for (tier, offloads) in TIERS {
            for host in &self.hosts {
                host.cables()?.iter().try_for_each(|device| set_offloads(host, device, offloads))?;
            }
            self.hosts[1].lvsadm(&format!("attach --mode {tier}"))?;
            for vip in [VIP, VIP6] {
                check(vip).with_context(|| format!("{tier}, offloads {offloads:?}, {vip}"))?;
            }
        }
        Ok(())
    }

    /// A long request and a long answer.
    fn transfers(&self, service: SocketAddr) -> Result<()> {
        let answer = self.client().post(service, 300_000).context("a long request")?;
        ensure!(answer.ends_with(" 300000\n"), "a wrong answer: {answer}");
        let long = self.client().get(service, "/bytes/300000").context("a long answer")?;
        ensure!(long.into_bytes() == text(300_000), "a long answer is not what was sent");
        Ok(())
    }

    /// Sets the MTU of both ends of the cable between two hosts of the chain.
    fn set_mtu(&self, between: usize, mtu: u32) -> Result<()> {
        let near = if between == 0 { "eth0" } else { "eth1" };
        self.hosts[between].ip(&[format!("link set {near} mtu {mtu}")])?;
        self.hosts[between + 1].ip(&[format!("link set eth0 mtu {mtu}")])
    }
}

/// An error that comes from the service's address, as all that is behind the director does.
fn reported(error: Errno, by: IpAddr) -> Fate {
    Fate::Reported { error, by, mtu: 0 }
}

fn expect(got: Fate, expected: Fate) -> Result<()> {
    ensure!(got == expected, "{got:?}, not {expected:?}");
    Ok(())
}

#[test]
fn traceroute_sees_every_hop() {
    for mode in MODES {
        let chain = Chain::new(mode).unwrap();
        let check = |vip| {
            let service = SocketAddr::new(vip, LIVE);
            // The director and the router end its life; the fourth is the server.
            for ttl in [1, 2] {
                let fate = chain.client().probe(service, ttl, 10).with_context(|| format!("TTL {ttl}"))?;
                expect(fate, reported(Errno::EHOSTUNREACH, vip))?;
            }
            let answer = format!("server {} 10\n", mode.client(vip)).into_bytes();
            expect(chain.client().probe(service, 3, 10)?, Fate::Answered(answer))
        };
        chain.each(check).unwrap_or_else(|error| panic!("{mode:?}: {error:#}"));
    }
}

#[test]
fn who_cannot_be_served_is_told_at_once() {
    for mode in MODES {
        let chain = Chain::new(mode).unwrap();
        let check = |vip| {
            for port in [CLOSED, EMPTY] {
                let service = SocketAddr::new(vip, port);
                let fate = chain.client().probe(service, 64, 10).with_context(|| format!("UDP to port {port}"))?;
                expect(fate, reported(Errno::ECONNREFUSED, vip))?;
                let connected =
                    chain.hosts[0].enter(|| Ok(TcpStream::connect_timeout(&service, Duration::from_secs(5))))?;
                let refused = connected.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
                ensure!(refused, "TCP to port {port}: {connected:?}");
            }
            Ok(())
        };
        chain.each(check).unwrap_or_else(|error| panic!("{mode:?}: {error:#}"));
    }
}

/// Client and server could send 3000 bytes at a time, but 1500 is all that fits between director and router. By FullNAT, the
/// client's address has to fit beside what TCP sends.
#[test]
fn the_path_mtu_is_told_by_the_service() {
    for mode in MODES {
        let chain = Chain::new(mode).unwrap();
        chain.set_mtu(0, 3000).unwrap();
        chain.set_mtu(2, 3000).unwrap();
        let check = |vip: IpAddr| {
            let service = SocketAddr::new(vip, LIVE);
            // What the tier before taught them.
            chain.hosts.iter().try_for_each(Namespace::forget_routes)?;
            // From here on the director knows its neighbours: fragments do not wait until it has asked for them.
            chain.client().probe(service, 64, 10).context("a short datagram")?;
            let fate = chain.client().probe(service, 64, 2900).context("a datagram")?;
            expect(fate, Fate::Reported { error: Errno::EMSGSIZE, by: vip, mtu: mode.longest(vip) })?;
            // The client knows now, and sends fragments.
            let Fate::Answered(answer) = chain.client().probe(service, 64, 2900).context("the next one")? else {
                anyhow::bail!("the next one was not answered");
            };
            ensure!(answer.ends_with(b" 2900\n"), "a wrong answer: {}", String::from_utf8_lossy(&answer));
            chain.hosts.iter().try_for_each(Namespace::forget_routes)?;
            // TCP finds out in both directions.
            chain.transfers(service)?;
            let told = match (mode, vip) {
                (Mode::Nat, _) => 0,
                (_, IpAddr::V4(_)) => 8,
                (_, IpAddr::V6(_)) => 20,
            };
            let mtu = mode.longest(vip) - told;
            let route = chain.hosts[0].run(&format!("ip route get {vip}"))?;
            ensure!(route.contains(&format!(" mtu {mtu} ")), "not {mtu}: {route}");
            Ok(())
        };
        chain.each(check).unwrap_or_else(|error| panic!("{mode:?}: {error:#}"));
    }
}

/// A client that says it takes longer segments than there is room for on its way: the real server is told.
#[test]
fn real_servers_are_told_what_fits_toward_clients() {
    for mode in MODES {
        let chain = Chain::new(mode).unwrap();
        chain.set_mtu(1, 3000).unwrap();
        chain.set_mtu(2, 3000).unwrap();
        chain.hosts[0]
            .ip(&["route add 10.10.10.10/32 via 10.10.10.254 advmss 2900", "route del 2001:db8:a::10/128"])
            .unwrap();
        chain.hosts[0].ip(&["route add 2001:db8:a::10/128 via 2001:db8:a::fe advmss 2900"]).unwrap();
        let check = |vip: IpAddr| {
            chain.hosts.iter().try_for_each(Namespace::forget_routes)?;
            chain.transfers(SocketAddr::new(vip, LIVE))?;
            let route = chain.hosts[3].run(&format!("ip route get {}", mode.client(vip)))?;
            // What the client takes, in the real server's family.
            let mtu = 3000 - mode.longest(vip);
            ensure!(route.contains(&format!(" mtu {mtu} ")), "not {mtu}: {route}");
            Ok(())
        };
        chain.each(check).unwrap_or_else(|error| panic!("{mode:?}: {error:#}"));
    }
}

/// The narrow place is behind the router, which tells the director, and that the client.
#[test]
fn a_router_s_path_mtu_is_told_in_the_client_s_family() {
    let chain = Chain::new(Mode::Crossed).unwrap();
    chain.set_mtu(0, 3000).unwrap();
    chain.set_mtu(1, 3000).unwrap();
    let check = |vip: IpAddr| {
        let service = SocketAddr::new(vip, LIVE);
        chain.hosts.iter().try_for_each(Namespace::forget_routes)?;
        let fate = chain.client().probe(service, 64, 2900).context("a datagram")?;
        expect(fate, Fate::Reported { error: Errno::EMSGSIZE, by: vip, mtu: Mode::Crossed.longest(vip) })?;
        chain.hosts.iter().try_for_each(Namespace::forget_routes)?;
        chain.transfers(service)
    };
    chain.each(check).unwrap();
}

/// Tunnels by the options of their destinations, and their headers' bytes behind the outer IP header.
const TUNNELS: [(&str, u32); 4] = [
    ("-i", 0),
    ("-i --tun-type gre", 4),
    ("-i --tun-type gue --tun-port 6080", 8 + 4),
    ("-i --tun-type vxlan --tun-port 4789", 8 + 8 + 14),
];

/// The same with tunnels to real servers behind a network of 1500 bytes: their headers have to fit as well.
#[test]
fn tunnels_tell_how_much_they_carry() {
    let layout = Layout { site: Site::Remote, servers: 2, ..Layout::default() };
    let cluster = Cluster::new(layout).unwrap();
    let client = cluster.client();
    set_mtu(&cluster.client, &["eth0"], 3000);
    set_mtu(&cluster.director, &["eth0"], 3000);
    set_mtu(&cluster.router, &["client", "director0", "front", "rs1", "rs2", "remote"], 3000);
    let mut servers = Vec::new();
    for (server, kinds) in cluster.servers.iter().zip(["ipip,gre,gue --tun-port 6080", "vxlan"]) {
        set_mtu(server, &["eth0"], 3000);
        server.lvsadm(&format!("real-server --tun --vip {VIP} {VIP6} --tun-type {kinds}")).unwrap();
        for port in 1000..1000 + TUNNELS.len() as u16 {
            servers.push(Server::http(server, port, "server").unwrap());
            servers.extend([VIP, VIP6].map(|vip| Server::udp(server, vip, port, "server").unwrap()));
        }
    }
    let services = |vip| (1000..).map(move |port| SocketAddr::new(vip, port)).zip(TUNNELS);
    for (service, (options, _)) in services(VIP).chain(services(VIP6)) {
        let (v4, v6) = cluster.server_addresses(if options.contains("vxlan") { 2 } else { 1 });
        let server = SocketAddr::new(if service.is_ipv4() { v4 } else { v6 }, service.port());
        for kind in ["-t", "-u"] {
            cluster.director.lvsadm(&format!("-A {kind} {service} -s rr")).unwrap();
            cluster.director.lvsadm(&format!("-a {kind} {service} -r {server} {options}")).unwrap();
        }
    }
    let check = |service: SocketAddr, headers: u32| -> Result<()> {
        let ip = if service.is_ipv4() { 20 } else { 40 };
        let mtu = 1500 - ip - headers;
        cluster.client.forget_routes()?;
        let fate = client.probe(service, 64, 2900).context("a datagram")?;
        expect(fate, Fate::Reported { error: Errno::EMSGSIZE, by: service.ip(), mtu })?;
        // The longest that fits is not in fragments.
        let length = (mtu - ip - 8) as usize;
        let own = if service.is_ipv4() { "10.10.10.1" } else { "2001:db8:a::1" };
        let answer = format!("server {own} {length}\n").into_bytes();
        expect(client.probe(service, 64, length).context("one that fits")?, Fate::Answered(answer))?;
        cluster.client.forget_routes()?;
        let answer = client.post(service, 300_000).context("a long request")?;
        ensure!(answer.ends_with(" 300000\n"), "a wrong answer: {answer}");
        let long = client.get(service, "/bytes/300000").context("a long answer")?;
        ensure!(long.len() == 300_000, "{} bytes came", long.len());
        Ok(())
    };
    for (tier, offloads) in TIERS {
        cluster.set_offloads(offloads).unwrap();
        cluster.director.lvsadm(&format!("attach --mode {tier}")).unwrap();
        for (service, (options, headers)) in services(VIP).chain(services(VIP6)) {
            let what = format!("{tier}, offloads {offloads:?}, {service} {options}");
            check(service, headers).unwrap_or_else(|error| panic!("{what}: {error:#}"));
        }
    }
}

fn set_mtu(host: &Namespace, devices: &[&str], mtu: u32) {
    let commands: Vec<String> = devices.iter().map(|device| format!("link set {device} mtu {mtu}")).collect();
    host.ip(&commands).unwrap();
}
