//! UOA: real servers of UDP behind FullNAT are told their clients by an option of IPv4, where that is wanted.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use etherparse::{NetHeaders, PacketHeaders, SlicedPacket, TransportHeader};
use tests::balanced::TIERS;
use tests::topology::{Cluster, Datagrams, Layout, Origin, PacketSocket, Server, Site, VIP};

const DNS: u16 = 53;
/// How long a frame may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// An option of a known kind that does nothing (RFC 2113).
const ROUTER_ALERT: [u8; 4] = [148, 4, 0, 0];

/// A director with a FullNAT service of UDP and one real server.
fn cluster() -> Result<(Cluster, Server)> {
    let cluster = Cluster::new(Layout { site: Site::Remote, servers: 1, ..Layout::default() })?;
    let server = cluster.server_addresses(1).0;
    let serving = Server::udp(&cluster.servers[0], server, DNS, "rs1")?;
    let director = &cluster.director;
    director.lvsadm("--add-laddr -z 192.168.122.100")?;
    director.lvsadm(&format!("-A -u {VIP}:{DNS} -s rr"))?;
    director.lvsadm(&format!("-a -u {VIP}:{DNS} -r {server}:{DNS} --fullnat"))?;
    Ok((cluster, serving))
}

/// The options of the next packet for the real server, whose checksum and length are looked at too.
fn options(wire: &PacketSocket) -> Result<Vec<u8>> {
    let is_request = |frame: &[u8]| {
        let headers = PacketHeaders::from_ethernet_slice(frame);
        headers.is_ok_and(|h| matches!(h.transport, Some(TransportHeader::Udp(udp)) if udp.destination_port == DNS))
    };
    let frame = wire.receive(PATIENCE, is_request)?.context("no datagram came")?;
    let Some(NetHeaders::Ipv4(ip, _)) = PacketHeaders::from_ethernet_slice(&frame)?.net else { bail!("not IPv4") };
    ensure!(ip.header_checksum == ip.calc_header_checksum(), "a wrong header checksum");
    let length = SlicedPacket::from_ethernet(&frame)?.ip_payload().context("no payload")?.payload.len();
    ensure!(usize::from(ip.total_len) == ip.header_len() + length, "a wrong length");
    Ok(ip.options.as_slice().to_vec())
}

/// The option for the client.
fn told(port: u16) -> Vec<u8> {
    [&[31, 8][..], &port.to_be_bytes(), &[10, 10, 10, 1]].concat()
}

fn tells(cluster: &Cluster, wanted: u16, port: u16) -> Result<()> {
    let director = &cluster.director;
    director.lvsadm(&format!("sysctl uoa={wanted}"))?;
    let exits = |names: [&str; 2]| -> Result<Vec<u64>> { names.iter().map(|name| director.exit(name)).collect() };
    const TELLING: [&str; 2] = ["toa-sent", "toa-no-room"];
    let before = exits(TELLING)?;
    let wire = PacketSocket::open(&cluster.servers[0], "eth0")?;
    let client =
        |port| Datagrams::open(&cluster.client, SocketAddr::new(VIP, DNS), Origin { port, ..Origin::default() });
    let plain = client(port)?;
    for number in 0..4 {
        // The server answers what it gets whole only.
        ensure!(plain.ask_with(100 + number)? == "rs1", "a wrong answer");
        let (options, expected) = (options(&wire)?, if number < wanted.into() { told(port) } else { Vec::new() });
        ensure!(options == expected, "datagram {number} has {options:?}, not {expected:?}");
    }
    // Behind the client's own options; without, where packet or header has no room.
    let other = client(port + 1)?;
    other.set_options(&ROUTER_ALERT)?;
    other.ask()?;
    let expected = if wanted > 0 { [&told(port + 1)[..], &ROUTER_ALERT].concat() } else { ROUTER_ALERT.to_vec() };
    let seen = options(&wire)?;
    ensure!(seen == expected, "options {seen:?}, not {expected:?}");
    other.set_options(&[])?;
    other.ask_with(1472)?;
    ensure!(options(&wire)?.is_empty(), "a full packet got longer");
    let (sent, unsent) = if wanted > 0 { (wanted + 1, 1) } else { (0, 0) };
    let after = exits(TELLING)?;
    let counted: Vec<u64> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
    ensure!(counted == [sent.into(), unsent], "counted {counted:?}");
    Ok(())
}

#[test]
fn the_first_datagrams_tell_their_client() {
    let (cluster, _server) = cluster().unwrap();
    for (turn, tier) in (0u16..).zip(TIERS) {
        cluster.set_offloads(tier.1).unwrap();
        cluster.director.lvsadm(&format!("attach --mode {}", tier.0)).unwrap();
        for wanted in [0, 2] {
            let port = 40_000 + turn * 10 + wanted;
            tells(&cluster, wanted, port).with_context(|| format!("{tier:?}, uoa={wanted}")).unwrap();
        }
    }
}

/// What a client says of itself is not passed on, with its first packet or any later one.
#[test]
fn no_client_tells_who_it_is() {
    let (cluster, _server) = cluster().unwrap();
    let director = &cluster.director;
    director.lvsadm("sysctl uoa=1").unwrap();
    let client = Datagrams::open(&cluster.client, SocketAddr::new(VIP, DNS), Origin::default()).unwrap();
    client.ask().unwrap();
    for options in [&[31, 8, 0, 53, 192, 0, 2, 1][..], &[1, 1, 148, 4, 0, 0, 31, 8, 0, 53, 192, 0, 2, 1]] {
        let before = director.exit("drop-forged").unwrap();
        client.set_options(options).unwrap();
        assert!(client.is_ignored().unwrap());
        assert_eq!(director.exit("drop-forged").unwrap(), before + 1);
    }
    client.set_options(&ROUTER_ALERT).unwrap();
    assert_eq!(client.ask().unwrap(), "rs1");
    // Nobody reads it where it is not written.
    director.lvsadm("sysctl uoa=0").unwrap();
    client.set_options(&[31, 8, 0, 53, 192, 0, 2, 1]).unwrap();
    assert_eq!(client.ask().unwrap(), "rs1");
}
