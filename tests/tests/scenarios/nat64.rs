//! FullNAT between families: clients of IPv6 and real servers of IPv4, and the other way round.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tests::balanced::{Balanced, FULLNAT, FULLNAT_TOA, TIERS, check};
use tests::eventually;
use tests::topology::{Arms, CLIENT, CLIENT6, Namespace, Origin, PacketSocket, Session, VIP, VIP6};

#[test]
fn both_ways() {
    check(FULLNAT, Arms::Two, &TIERS, true).unwrap();
}

/// A real server's sockets for both families tell the client of the other one.
#[test]
fn real_servers_are_told() {
    check(FULLNAT_TOA, Arms::Two, &TIERS, true).unwrap();
}

#[test]
fn one_armed() {
    check(FULLNAT, Arms::One, &[TIERS[0], TIERS[3]], true).unwrap();
}

/// The local address that real servers of the other family than `vip` know.
fn local(vip: IpAddr) -> &'static str {
    if vip.is_ipv4() { "2001:db8:b::100" } else { "192.168.122.100" }
}

/// How many connections local addresses have, IPv4's and IPv6's.
fn in_use(balanced: &Balanced) -> Result<Vec<u64>> {
    let pools = balanced.cluster.director.json("--get-laddr --json")?;
    let addresses = pools[0]["addresses"].as_array().context("no pool")?;
    addresses.iter().map(|address| address["connections"].as_u64().context("no number")).collect()
}

/// A connection is listed with what it is between, and what it held is free once it is over.
#[test]
fn connections_are_listed_and_end() {
    let balanced = Balanced::new(FULLNAT, Arms::Two, true).unwrap();
    balanced.carry_by(TIERS[0]).unwrap();
    let director = &balanced.cluster.director;
    for vip in [VIP, VIP6] {
        let service = SocketAddr::new(vip, 80);
        let mut sessions: Vec<Session> = (0..2)
            .map(|_| Session::open(&balanced.cluster.client, service, Origin::default()).expect("a connection"))
            .collect();
        for session in &mut sessions {
            session.ask().unwrap();
        }
        let listed = director.connections().unwrap();
        assert_eq!(listed.len(), 2, "{listed:?}");
        for (connection, session) in listed.iter().zip(&sessions) {
            assert_eq!(connection["virtual"]["address"], json!(vip), "{connection}");
            assert_eq!(connection["local"]["address"], json!(local(vip)), "{connection}");
            let real: IpAddr = serde_json::from_value(connection["destination"]["address"].clone()).unwrap();
            assert_ne!(real.is_ipv4(), vip.is_ipv4(), "{connection}");
            let _ = session.port().unwrap();
        }
        assert_eq!(in_use(&balanced).unwrap(), if vip.is_ipv4() { [0, 2] } else { [2, 0] });
        // A real server that is taken out keeps its connections until they are ended.
        let (v4, v6) = balanced.cluster.server_addresses(1);
        let server = SocketAddr::new(if vip.is_ipv4() { v6 } else { v4 }, 80);
        director.lvsadm(&format!("drain -t {service} -r {server} --timeout 0 --reset")).unwrap();
        let rest = director.connections().unwrap();
        assert_eq!(rest.len(), 1, "{rest:?}");
        // Idle ones expire.
        director.lvsadm(&format!("-E -t {service} -s rr --conn-timeout 1:1:1")).unwrap();
        for session in &mut sessions {
            let _ = session.ask();
        }
        eventually("they expire", || director.connections().unwrap().is_empty());
        assert_eq!(in_use(&balanced).unwrap(), [0, 0]);
    }
}

/// A socket of a host's, connected.
fn socket(host: &Namespace, from: SocketAddr, to: SocketAddr) -> Result<UdpSocket> {
    host.enter(|| {
        let socket = UdpSocket::bind(from)?;
        socket.connect(to)?;
        Ok(socket)
    })
}

/// A client that is gone tells the real server so, in the real server's family.
#[test]
fn real_servers_are_told_of_clients_that_are_gone() {
    let balanced = Balanced::new(FULLNAT, Arms::Two, true).unwrap();
    balanced.carry_by(TIERS[0]).unwrap();
    let cluster = &balanced.cluster;
    for (vip, client) in [(VIP, CLIENT), (VIP6, CLIENT6)] {
        let service = SocketAddr::new(vip, 53);
        let (v4, v6) = cluster.server_addresses(1);
        let real = SocketAddr::new(if vip.is_ipv4() { v6 } else { v4 }, 53);
        let server = cluster.servers[0].enter(|| Ok(UdpSocket::bind(real)?)).unwrap();
        server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        // One of the two real servers gets it, the other has nobody there.
        let mut asked = None;
        for _ in 0..2 {
            let asking = socket(&cluster.client, SocketAddr::new(client, 0), service).unwrap();
            asking.send(b"please").unwrap();
            let mut buffer = [0; 64];
            server.set_read_timeout(Some(Duration::from_millis(if asked.is_some() { 1 } else { 3000 }))).unwrap();
            if let Ok((length, from)) = server.recv_from(&mut buffer) {
                assert_eq!(&buffer[..length], b"please");
                assert_eq!(from.ip().to_string(), local(vip));
                asked = Some(from);
            }
        }
        let from = asked.expect("no request came");
        let wire = PacketSocket::open(&cluster.servers[0], "eth0").unwrap();
        server.connect(from).unwrap();
        server.send(b"too late").unwrap();
        // Type and code of an unreachable port, and in what is quoted the answer as the real server sent it.
        let (head, kind) = if real.is_ipv4() { (14 + 20, [3, 3]) } else { (14 + 40, [1, 4]) };
        let is_it = |frame: &[u8]| frame.get(head..head + 2) == Some(&kind);
        let frame = wire.receive(Duration::from_secs(10), is_it).unwrap().expect("the real server is told nothing");
        let quoted = &frame[head + 8 + head - 14..];
        let port = |at: usize| u16::from_be_bytes([quoted[at], quoted[at + 1]]);
        assert_eq!((port(0), port(2)), (53, from.port()));
        // Its kernel takes it for what it is.
        let refused = tests::uninterrupted(|| server.recv(&mut [0; 64])).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{refused}");
    }
}

/// A service by mark leads to the other family too.
#[test]
fn marked_traffic_is_balanced() {
    let balanced = Balanced::new(FULLNAT, Arms::Two, true).unwrap();
    balanced.carry_by(TIERS[0]).unwrap();
    let director = &balanced.cluster.director;
    director.lvsadm("-C").unwrap();
    for (vip, six, mark) in [(VIP, "", 4), (VIP6, "-6", 6)] {
        director.lvsadm(&format!("mark add --mark {mark} --to {vip}")).unwrap();
        director.lvsadm(&format!("-A -f {mark} {six} -s rr")).unwrap();
        for number in 1..=2 {
            let (v4, v6) = balanced.cluster.server_addresses(number);
            let server = SocketAddr::new(if vip.is_ipv4() { v6 } else { v4 }, 0);
            director.lvsadm(&format!("-a -f {mark} {six} -r {server} --fullnat")).unwrap();
        }
        let spread = balanced.cluster.client().spread(SocketAddr::new(vip, 80), 4).unwrap();
        assert_eq!(spread.into_values().collect::<Vec<_>>(), [2, 2]);
    }
    // The rules are saved and restored as they are.
    let saved = director.lvsadm("-Sn").unwrap();
    assert!(saved.contains("--fullnat"), "{saved}");
}
