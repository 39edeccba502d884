//! Devices that belong to others: a bridge decides which of its ports' packets come in, so it is served and its ports are not.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use tests::topology::{Client, Namespace, Offloads, Server, VIP, connect};

/// Clients on two cables into a bridge of the director, whose second port can be disabled, and a real server on a third cable.
///
/// ```text
///   client 10.10.10.1 ── port0 ┐
///                              br0 10.10.10.254, director, eth1 10.20.0.254 ── 10.20.0.1 server
///   other  10.10.10.2 ── port1 ┘
/// ```
struct Bridged {
    _server: Server,
    director: Namespace,
    clients: [Namespace; 2],
    _real: Namespace,
}

impl Bridged {
    fn new() -> Result<Self> {
        let director = Namespace::new("director")?;
        let (clients, real) = ([Namespace::new("client")?, Namespace::new("other")?], Namespace::new("server")?);
        director.sysctl(&["net/ipv4/ip_forward=1"])?;
        director
            .ip(&["link add br0 type bridge forward_delay 0 mcast_snooping 0", "addr add 10.10.10.254/24 dev br0"])?;
        for (number, client) in clients.iter().enumerate() {
            connect((&director, &format!("port{number}")), (client, "eth0"), Offloads::On)?;
            director.ip(&[format!("link set port{number} master br0")])?;
            client.ip(&[format!("addr add 10.10.10.{}/24 dev eth0", number + 1)])?;
        }
        director.ip(&["link set br0 up", "addr add 10.10.10.10/32 dev lo"])?;
        for client in &clients {
            client.ip(&["route replace 10.10.10.10/32 via 10.10.10.254"])?;
        }
        connect((&director, "eth1"), (&real, "eth0"), Offloads::On)?;
        director.ip(&["addr add 10.20.0.254/24 dev eth1"])?;
        real.ip(&["addr add 10.20.0.1/24 dev eth0", "route replace default via 10.20.0.254"])?;
        director.lvsadm("-A -u 10.10.10.10:53 -s rr")?;
        director.lvsadm("-a -u 10.10.10.10:53 -r 10.20.0.1:53 -m")?;
        let server = Server::udp(&real, "10.20.0.1".parse()?, 53, "rs")?;
        Ok(Bridged { _server: server, director, clients, _real: real })
    }

    /// The device's line of the status, if it is attached.
    fn line(&self, device: &str) -> Result<Option<String>> {
        let status = self.director.lvsadm("status")?;
        Ok(status.lines().find(|line| line.starts_with(&format!("{device} "))).map(str::to_owned))
    }
}

#[test]
fn a_bridge_is_served_and_what_it_drops_is_not() -> Result<()> {
    let net = Bridged::new()?;
    let service = SocketAddr::new(VIP, 53);
    // Its neighbour's address is known, so that it could be answered.
    for client in &net.clients {
        Client(client).datagram(service, 100).context("both ports forward")?;
    }
    net.director.run("bridge link set dev port1 state 0")?;
    let connections = net.director.lvsadm("-Lcn")?.lines().count();
    net.clients[1].enter(|| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
        Ok(socket.send_to(b"to nobody", service)?)
    })?;
    // What came in after it is served, so it has been seen.
    Client(&net.clients[0]).datagram(service, 100).context("the other port forwards")?;
    ensure!(
        net.director.lvsadm("-Lcn")?.lines().count() == connections + 1,
        "a disabled port's packet opens a connection"
    );
    Ok(())
}

#[test]
fn ports_are_refused_with_the_reason_and_let_go_when_they_become_ports() -> Result<()> {
    let net = Bridged::new()?;
    ensure!(net.line("br0")?.is_some() && net.line("port0")?.is_none(), "the bridge alone is attached");
    let refused = net.director.lvsadm("attach --dev port0").err().context("a port is attached")?;
    let reason = "cannot attach to port0: it is a port of br0, which decides what comes in: attach to br0";
    ensure!(format!("{refused:#}").contains(reason), "{refused:#}");
    net.director.ip(&["link set port1 nomaster"])?;
    net.director.lvsadm("-Ln")?;
    ensure!(net.line("port1")?.is_some(), "a device of its own is attached");
    net.director.ip(&["link set port1 master br0"])?;
    net.director.lvsadm("-Ln")?;
    ensure!(net.line("port1")?.is_none(), "a port stays attached");
    Client(&net.clients[1]).datagram(SocketAddr::new(VIP, 53), 100).map(drop)
}
