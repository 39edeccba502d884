//! The standard set-up: a client, a director, real servers next to it and real servers behind a router.
//!
//! ```text
//!                 10.10.10.0/24                192.168.122.0/24               192.168.123.0/24
//!   client ────────────┬──── eth0 director eth1 ────┬──── rs1, rs2, …
//!     10.10.10.1       │      .10 (VIP)  .100       │      .101, .102, …
//!                      └────────── router ──────────┴───────────── rs1, rs2, … (remote)
//!                         .254               .1           .1         .101, .102, …
//! ```
//!
//! One-armed, the director has only the device in the servers' network, `lo` holds the VIP, the client is at 10.20.0.1
//! behind the router, and the router sends packets for the VIP to the director. IPv6 is alike: 2001:db8:a::, b:: and c::.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Result;

use super::cable::{Offloads, connect, set_offloads};
use super::client::Client;
use super::namespace::Namespace;
use super::nics::Driver;
use super::server::Server;

/// The virtual address.
pub const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 10, 10, 10));
/// The virtual IPv6 address.
pub const VIP6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 0x10));
/// The client of a two-armed director.
pub const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 10, 10, 1));
/// See [`CLIENT`].
pub const CLIENT6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 1));

/// How many devices the director has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arms {
    /// One, in the servers' network.
    One,
    /// One towards clients, one towards servers.
    Two,
    /// The same two, but they are VLANs 10 and 20 of one cable.
    Trunk,
    /// Two, without the addresses that clients and real servers send to: keepalived gives them to one director of a
    /// [`Pair`](super::Pair).
    Pair,
}

/// The device that carries the VLANs, at both ends.
pub const TRUNK: &str = "trunk";

/// Where the real servers are and which way their answers go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    /// In the director's network; answers go through the director (NAT).
    BehindDirector,
    /// In the director's network; answers go through the router (DR, and TUN as well).
    BesideDirector,
    /// In a network of their own; answers go through the router (TUN).
    Remote,
}

/// What a [`Cluster`] is like.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// The director's devices.
    pub arms: Arms,
    /// Where the real servers are.
    pub site: Site,
    /// How many there are.
    pub servers: usize,
    /// What all devices do for their hosts.
    pub offloads: Offloads,
    /// What drives the two devices of a two-armed director, if not veth.
    pub driver: Option<Driver>,
}

impl Default for Layout {
    fn default() -> Self {
        Layout { arms: Arms::Two, site: Site::BehindDirector, servers: 3, offloads: Offloads::On, driver: None }
    }
}

/// Where one of several directors is plugged in: what its ports are called, and the last part of its addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plug<'a> {
    pub name: &'a str,
    pub host: u8,
}

/// The directors of a pair.
pub(super) const FIRST: Plug<'_> = Plug { name: "director", host: 98 };
const SECOND: Plug<'_> = Plug { name: "second", host: 99 };

/// The set-up; HTTP servers named `rs1`, `rs2`, … run on port 80 of the real servers.
pub struct Cluster {
    // Servers stop before their namespaces go.
    http: BTreeMap<usize, Server>,
    layout: Layout,
    /// Where requests come from.
    pub client: Namespace,
    /// The director; its devices are `eth0` (not if one-armed) and `eth1`.
    pub director: Namespace,
    /// The router, and the switches of all three networks.
    pub router: Namespace,
    /// The real servers; their device is `eth0`.
    pub servers: Vec<Namespace>,
}

impl Cluster {
    /// Builds it.
    pub fn new(layout: Layout) -> Result<Self> {
        let servers: Result<Vec<_>> = (1..=layout.servers).map(|n| Namespace::new(&format!("rs{n}"))).collect();
        let mut cluster = Cluster {
            http: BTreeMap::new(),
            layout,
            client: Namespace::new("client")?,
            director: Namespace::new("director")?,
            router: Namespace::new("router")?,
            servers: servers?,
        };
        cluster.build_router()?;
        cluster.build_client()?;
        cluster.build_director()?;
        for number in 1..=layout.servers {
            cluster.build_server(number)?;
        }
        Ok(cluster)
    }

    /// Builds it with rules: a service on port 80 of each virtual address, and the first real server with these options for both.
    pub fn serving(layout: Layout, options: &str) -> Result<Self> {
        let cluster = Cluster::new(layout)?;
        cluster.director.sysctl(&["net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1"])?;
        let (v4, v6) = cluster.server_addresses(1);
        for (vip, real) in [(VIP, v4), (VIP6, v6)] {
            let (service, real) = (SocketAddr::new(vip, 80), SocketAddr::new(real, 80));
            cluster.director.lvsadm(&format!("-A -t {service} -s rr"))?;
            cluster.director.lvsadm(&format!("-a -t {service} -r {real} {options}"))?;
        }
        Ok(cluster)
    }

    /// The client.
    pub fn client(&self) -> Client<'_> {
        Client(&self.client)
    }

    /// The device on which requests reach the director.
    pub fn front(&self) -> &'static str {
        if self.layout.arms == Arms::One { "eth1" } else { "eth0" }
    }

    /// The addresses of real server `number`, from 1.
    pub fn server_addresses(&self, number: usize) -> (IpAddr, IpAddr) {
        let host = 100 + number as u16;
        let (third, group) = if self.layout.site == Site::Remote { (123, 0xc) } else { (122, 0xb) };
        let v6 = Ipv6Addr::new(0x2001, 0xdb8, group, 0, 0, 0, 0, 0x100 + number as u16);
        (Ipv4Addr::new(192, 168, third, host as u8).into(), v6.into())
    }

    /// Changes what all devices do for their hosts.
    pub fn set_offloads(&self, offloads: Offloads) -> Result<()> {
        let hosts = [&self.client, &self.director].into_iter().chain(&self.servers);
        for namespace in hosts.chain([&self.router]) {
            for device in namespace.cables()? {
                set_offloads(namespace, &device, offloads)?;
            }
        }
        Ok(())
    }

    /// Starts the HTTP server of real server `number`, which runs from the beginning on.
    pub fn start(&mut self, number: usize) -> Result<()> {
        let http = Server::http(&self.servers[number - 1], 80, &format!("rs{number}"))?;
        self.http.insert(number, http);
        Ok(())
    }

    /// Stops it: connections to it are refused.
    pub fn stop(&mut self, number: usize) {
        self.http.remove(&number);
    }

    /// Plugs `device` of a host into one of the router's switches (`front`, `servers`, `remote`).
    fn plug(&self, host: &Namespace, device: &str, switch: &str, port: &str) -> Result<()> {
        connect((host, device), (&self.router, port), self.layout.offloads)?;
        self.router.ip(&[format!("link set {port} master {switch}")])
    }

    /// Plugs in a device of a two-armed director; `cable` is of the driver's.
    fn plug_arm(&self, device: &str, switch: &str, port: &str, cable: u8) -> Result<()> {
        let Some(driver) = self.layout.driver else { return self.plug(&self.director, device, switch, port) };
        driver.connect(cable, (&self.director, device), (&self.router, port))?;
        self.router.ip(&[format!("link set {port} master {switch}")])
    }

    fn build_router(&self) -> Result<()> {
        let front = match self.layout.arms {
            Arms::One => "10.20.0.254/24",
            _ => "10.10.10.254/24",
        };
        let switches = [
            ("front", front, "2001:db8:a::fe/64"),
            ("servers", "192.168.122.1/24", "2001:db8:b::1/64"),
            ("remote", "192.168.123.1/24", "2001:db8:c::1/64"),
        ];
        for (number, (name, v4, v6)) in switches.into_iter().enumerate() {
            self.router.ip(&[
                // An address of its own: it would be a port's, and change when the port is gone.
                format!(
                    "link add {name} address 02:00:00:00:00:0{number} type bridge forward_delay 0 mcast_snooping 0"
                ),
                format!("addr add {v4} dev {name}"),
                format!("addr add {v6} dev {name} nodad"),
                format!("link set {name} up"),
            ])?;
        }
        if self.layout.arms == Arms::One {
            self.router.ip(&[
                "route add 10.10.10.10/32 via 192.168.122.100",
                "route add 2001:db8:a::10/128 via 2001:db8:b::100",
            ])?;
        }
        self.router.sysctl(&[
            "net/ipv4/ip_forward=1",
            "net/ipv6/conf/all/forwarding=1",
            "net/ipv4/conf/all/rp_filter=0",
            "net/ipv4/conf/all/send_redirects=0",
            "net/ipv4/conf/front/send_redirects=0",
            "net/ipv4/conf/servers/send_redirects=0",
        ])
    }

    fn build_client(&self) -> Result<()> {
        self.plug(&self.client, "eth0", "front", "client")?;
        let (address, router) = match self.layout.arms {
            Arms::One => ("10.20.0.1/24", "10.20.0.254"),
            _ => ("10.10.10.1/24", "10.10.10.254"),
        };
        self.client.ip(&[
            format!("addr add {address} dev eth0"),
            "addr add 2001:db8:a::1/64 dev eth0 nodad".to_owned(),
            format!("route add default via {router}"),
            "route add default via 2001:db8:a::fe".to_owned(),
        ])?;
        if self.layout.arms == Arms::One {
            // The VIP is not on this network, though its addresses look so.
            self.client.ip(&["route add 2001:db8:a::10/128 via 2001:db8:a::fe"])?;
        }
        Ok(())
    }

    fn build_director(&self) -> Result<()> {
        match self.layout.arms {
            Arms::Pair => return self.build_member(&self.director, FIRST),
            Arms::One => self.plug(&self.director, "eth1", "servers", "director1")?,
            Arms::Two => {
                self.plug_arm("eth1", "servers", "director1", 0)?;
                self.plug_arm("eth0", "front", "director0", 1)?;
            }
            Arms::Trunk => self.lay_trunk()?,
        }
        self.director.ip(&[
            "addr add 192.168.122.100/24 dev eth1",
            "addr add 2001:db8:b::100/64 dev eth1 nodad",
            "route add 192.168.123.0/24 via 192.168.122.1",
            "route add 2001:db8:c::/64 via 2001:db8:b::1",
        ])?;
        if self.layout.arms != Arms::One {
            return self
                .director
                .ip(&["addr add 10.10.10.10/24 dev eth0", "addr add 2001:db8:a::10/64 dev eth0 nodad"]);
        }
        self.director.ip(&[
            "addr add 10.10.10.10/32 dev lo",
            "addr add 2001:db8:a::10/128 dev lo nodad",
            "route add default via 192.168.122.1",
            "route add default via 2001:db8:b::1",
        ])
    }

    /// Plugs the director into the switches `front` and `servers` by VLANs of one cable.
    fn lay_trunk(&self) -> Result<()> {
        connect((&self.director, TRUNK), (&self.router, TRUNK), self.layout.offloads)?;
        for (device, port, id, switch) in [("eth0", "director0", 10, "front"), ("eth1", "director1", 20, "servers")] {
            let vlan =
                |name| [format!("link add link {TRUNK} name {name} type vlan id {id}"), format!("link set {name} up")];
            self.director.ip(&vlan(device))?;
            self.router.ip(&vlan(port))?;
            self.router.ip(&[format!("link set {port} master {switch}")])?;
        }
        Ok(())
    }

    /// A second director of a two-armed cluster, `eth0` and `eth1` beside the first one's. It has neither the virtual address nor
    /// the one that real servers send their answers to.
    pub fn second_director(&self) -> Result<Namespace> {
        let second = Namespace::new("second")?;
        self.build_member(&second, SECOND)?;
        Ok(second)
    }

    /// Plugs in one of several directors, beside the others. It has addresses of its own only.
    pub(super) fn build_member(&self, director: &Namespace, Plug { name, host }: Plug<'_>) -> Result<()> {
        self.plug(director, "eth1", "servers", &format!("{name}1"))?;
        self.plug(director, "eth0", "front", &format!("{name}0"))?;
        director.ip(&[
            format!("addr add 192.168.122.{host}/24 dev eth1"),
            format!("addr add 2001:db8:b::{host}/64 dev eth1 nodad"),
            format!("addr add 10.10.10.{host}/24 dev eth0"),
            format!("addr add 2001:db8:a::{host}/64 dev eth0 nodad"),
            "route add 192.168.123.0/24 via 192.168.122.1".to_owned(),
            "route add 2001:db8:c::/64 via 2001:db8:b::1".to_owned(),
        ])
    }

    /// Takes the director's cables out, and gives its addresses to another.
    pub fn fail_over(&self, to: &Namespace) -> Result<()> {
        self.director.ip(&["link set eth0 down", "link set eth1 down"])?;
        to.ip(&[
            "addr add 10.10.10.10/24 dev eth0",
            "addr add 2001:db8:a::10/64 dev eth0 nodad",
            "addr add 192.168.122.100/24 dev eth1",
            "addr add 2001:db8:b::100/64 dev eth1 nodad",
        ])?;
        // What VRRP's gratuitous announcements do.
        for namespace in [&self.client, &self.router].into_iter().chain(&self.servers) {
            namespace.run("ip neigh flush all")?;
            namespace.run("ip -6 neigh flush all")?;
        }
        Ok(())
    }

    fn build_server(&mut self, number: usize) -> Result<()> {
        let server = &self.servers[number - 1];
        let switch = if self.layout.site == Site::Remote { "remote" } else { "servers" };
        self.plug(server, "eth0", switch, &format!("rs{number}"))?;
        let (v4, v6) = self.server_addresses(number);
        let (router, router6) = match self.layout.site {
            Site::BehindDirector => ("192.168.122.100", "2001:db8:b::100"),
            Site::BesideDirector => ("192.168.122.1", "2001:db8:b::1"),
            Site::Remote => ("192.168.123.1", "2001:db8:c::1"),
        };
        server.ip(&[
            format!("addr add {v4}/24 dev eth0"),
            format!("addr add {v6}/64 dev eth0 nodad"),
            format!("route add default via {router}"),
            format!("route add default via {router6}"),
        ])?;
        self.start(number)
    }
}
