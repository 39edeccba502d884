//! Timeouts of a service: its connections have them, through every edit of service and destinations.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tests::topology::{Cluster, Datagrams, Layout, Namespace, Origin, Server, Session, VIP};

/// Seconds that may have passed since a packet, on a busy machine.
const SLACK: u64 = 20;

/// Seconds until the connection from a client's port expires, and its state.
fn left(director: &Namespace, port: u16) -> Result<(u64, String)> {
    let connections = director.connections()?;
    let found = connections.iter().find(|c| c["client"]["port"] == port).context("no such connection")?;
    let state = found["state"].as_str().context("no state")?.to_owned();
    Ok((found["expires"].as_u64().context("no time")?, state))
}

/// Asserts that a connection's timeout is so many seconds, and its state this one.
fn assert_left(director: &Namespace, port: u16, seconds: u64, state: &str) {
    let (left, is) = left(director, port).unwrap();
    assert!((seconds - SLACK..=seconds).contains(&left) && is == state, "{left} s, {is}, not {seconds} s, {state}");
}

#[test]
fn a_services_timeouts_are_its_connections() {
    let cluster = Cluster::new(Layout { servers: 1, ..Layout::default() }).unwrap();
    let (director, client) = (&cluster.director, &cluster.client);
    director.sysctl(&["net/ipv4/ip_forward=1"]).unwrap();
    let server = cluster.server_addresses(1).0;
    let _servers = [
        Server::http(&cluster.servers[0], 81, "rs1").unwrap(),
        Server::udp(&cluster.servers[0], server, 80, "rs1").unwrap(),
    ];
    director.lvsadm("--set 700 100 200").unwrap();
    for (service, options) in [("-t 10.10.10.10:80", " --conn-timeout 400:50:90"), ("-t 10.10.10.10:81", "")] {
        director.lvsadm(&format!("-A {service} -s rr{options}")).unwrap();
        let port = &service[service.len() - 2..];
        director.lvsadm(&format!("-a {service} -r {server}:{port} -m")).unwrap();
    }
    director.lvsadm("-A -u 10.10.10.10:80 -s rr --conn-timeout 0:0:90").unwrap();
    director.lvsadm(&format!("-a -u 10.10.10.10:80 -r {server}:80 -m")).unwrap();

    let [mut own, mut global] =
        [80, 81].map(|port| Session::open(client, SocketAddr::new(VIP, port), Origin::default()).unwrap());
    let ports = [own.port().unwrap(), global.port().unwrap()];
    let mut both_are = |timeouts: [u64; 2]| {
        for (session, (port, seconds)) in [&mut own, &mut global].into_iter().zip(ports.into_iter().zip(timeouts)) {
            assert_eq!(session.ask().unwrap(), "rs1");
            assert_left(director, port, seconds, "ESTABLISHED");
        }
    };
    both_are([400, 700]);
    let destination = format!("-t 10.10.10.10:80 -r {server}:80");
    for edit in [
        format!("-e {destination} -m -w 3"),
        "-E -t 10.10.10.10:80 -s wlc".to_owned(),
        format!("-d {destination}"),
        format!("-a {destination} -m"),
        format!("-e {destination} -m -w 0"),
    ] {
        director.lvsadm(&edit).unwrap();
        if !edit.starts_with("-d") {
            both_are([400, 700]);
        }
    }
    director.lvsadm("-E -t 10.10.10.10:80 -s wlc --conn-timeout 0").unwrap();
    both_are([700, 700]);
    director.lvsadm("-E -t 10.10.10.10:80 -s wlc --conn-timeout 300:60").unwrap();
    director.lvsadm("-E -t 10.10.10.10:81 -s wlc --conn-timeout 0:60").unwrap();
    both_are([300, 700]);
    // The server has closed, the client has not.
    own.ask_once().unwrap();
    assert_left(director, ports[0], 60, "FIN_WAIT");

    let datagrams = Datagrams::open(client, SocketAddr::new(VIP, 80), Origin::default()).unwrap();
    assert_eq!(datagrams.ask().unwrap(), "rs1");
    let connections = director.connections().unwrap();
    let udp = connections.iter().find(|c| c["protocol"] == "udp").unwrap();
    let left = udp["expires"].as_u64().unwrap();
    assert!((90 - SLACK..=90).contains(&left), "{udp}");

    let saved = director.lvsadm("save --full").unwrap();
    for line in
        ["-A -t 10.10.10.10:80 -s wlc --conn-timeout 300:60:0", "-A -u 10.10.10.10:80 -s rr --conn-timeout 0:0:90"]
    {
        assert!(saved.lines().any(|other| other == line), "{saved}");
    }
}
