//! Which packets may open a connection: sources that cannot be, `rp_filter`, addresses that the host routes on, and loopback
//! addresses.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::fixtures::frame::{self, UDP};
use tests::fixtures::{CLIENT_MAC, CLIENTS, DIRECTOR, Port, SERVER, Testbed, tc_verdict, vip, xdp_verdict};
use tests::topology::{Client, Cluster, Layout, Offloads, PacketSocket, Server, VIP};

/// A director with a name service in each family.
fn name_service() -> Result<Testbed> {
    let testbed = Testbed::new()?;
    for v6 in [false, true] {
        let (service, server) = (SocketAddr::new(vip(v6), 53), SocketAddr::new(SERVER.of(v6), 53));
        testbed.director.lvsadm(&format!("-A -u {service} -s rr"))?;
        testbed.director.lvsadm(&format!("-a -u {service} -r {server} -m"))?;
    }
    Ok(testbed)
}

/// What becomes of a datagram from a source in XDP and in TC: the exit that both of them count, `served`, or `passed`.
fn fate(testbed: &Testbed, at: Port, source: IpAddr, service: SocketAddr) -> Result<[String; 2]> {
    let from = |port| SocketAddr::new(source, port);
    let packet = |from| frame::ip(source, service.ip(), 0, 64, UDP, &frame::udp(from, service, b"?"));
    let port = tests::topology::fresh_port();
    let frames = [port, port + 1].map(|port| frame::ethernet(at.mac, CLIENT_MAC, &packet(from(port))));
    let before = drops(testbed)?;
    let by_xdp = testbed.with_programs(|programs| Ok(programs.run_xdp(at, &frames[0])?.verdict))?;
    let between = drops(testbed)?;
    let by_tc = testbed.with_programs(|programs| Ok(programs.run_tc(at, &frames[1])?.verdict))?;
    let after = drops(testbed)?;
    let counted = |before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>| {
        let grown = |name: &&String| after[*name] > before[*name];
        after.keys().find(grown).cloned().unwrap_or_else(|| "no drop counted".to_owned())
    };
    let by_xdp = match by_xdp {
        xdp_verdict::DROP => counted(&before, &between),
        xdp_verdict::PASS => "passed".to_owned(),
        _ => "served".to_owned(),
    };
    let by_tc = match by_tc {
        tc_verdict::SHOT => counted(&between, &after),
        tc_verdict::REDIRECT => "served".to_owned(),
        _ => "passed".to_owned(),
    };
    Ok([by_xdp, by_tc])
}

/// The counts of all exits that drop.
fn drops(testbed: &Testbed) -> Result<BTreeMap<String, u64>> {
    let mut exits = testbed.director.exits()?;
    exits.retain(|name, _| name.starts_with("drop-"));
    Ok(exits)
}

/// Checks that datagrams from a source come to this end in TC, and that XDP decides the same or leaves it to TC.
fn ends(testbed: &Testbed, at: Port, source: IpAddr, expected: &str) {
    let service = SocketAddr::new(vip(source.is_ipv6()), 53);
    let [by_xdp, by_tc] = fate(testbed, at, source, service).unwrap();
    assert_eq!(by_tc, expected, "{source}, TC");
    assert!(by_xdp == expected || by_xdp == "passed" && expected == "served", "{source}, XDP: {by_xdp}");
}

#[test]
fn sources_that_cannot_be_open_no_connection() {
    let testbed = name_service().unwrap();
    let own = [false, true].map(|v6| DIRECTOR.of(v6).to_string());
    let v4 = ["127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "10.10.10.10", "10.10.10.255", own[0].as_str()];
    let v6 = ["::", "::1", "ff02::1", "fe80::1", "::ffff:192.0.2.77", "2001:db8:a::10", own[1].as_str()];
    for source in v4.into_iter().chain(v6) {
        ends(&testbed, testbed.front, source.parse().unwrap(), "drop-martian");
    }
    assert!(testbed.director.connections().unwrap().is_empty());
    // Strangers are served, with a route to them or without.
    for source in
        [CLIENTS.of(false), CLIENTS.of(true), "172.16.1.1".parse().unwrap(), "2001:db8:99::1".parse().unwrap()]
    {
        ends(&testbed, testbed.front, source, "served");
    }
}

#[test]
fn a_packet_for_a_loopback_address_comes_from_no_wire() {
    let testbed = name_service().unwrap();
    for v6 in [false, true] {
        let service = SocketAddr::new(if v6 { "::1" } else { "127.0.0.1" }.parse().unwrap(), 53);
        testbed.director.lvsadm(&format!("-A -u {service} -s rr")).unwrap();
        testbed.director.lvsadm(&format!("-a -u {service} -r {} -m", SocketAddr::new(SERVER.of(v6), 53))).unwrap();
        let ends = fate(&testbed, testbed.front, CLIENTS.of(v6), service).unwrap();
        assert_eq!(ends, ["drop-martian"; 2], "{service}");
    }
}

#[test]
fn rp_filter_is_the_hosts() {
    let testbed = name_service().unwrap();
    let inside: IpAddr = "192.168.122.77".parse().unwrap();
    let nowhere: IpAddr = "172.16.1.1".parse().unwrap();
    let prohibited: IpAddr = "172.17.1.1".parse().unwrap();
    testbed.director.ip(&["route add prohibit 172.17.0.0/16"]).unwrap();
    let refused = "drop-rp-filter";
    // The greater of the two settings is in force; each command notes them.
    let cases =
        [(0, 0, ["served"; 3]), (1, 0, [refused; 3]), (0, 1, [refused; 3]), (1, 2, ["served", refused, refused])];
    for (all, own, expected) in cases {
        let set = [format!("net/ipv4/conf/all/rp_filter={all}"), format!("net/ipv4/conf/front/rp_filter={own}")];
        testbed.director.sysctl(&set.each_ref().map(String::as_str)).unwrap();
        testbed.director.lvsadm("-Ln").unwrap();
        for (source, expected) in [inside, nowhere, prohibited].into_iter().zip(expected) {
            // Where there is no way to the client, the answer has none either, but the request has.
            ends(&testbed, testbed.front, source, expected);
        }
        ends(&testbed, testbed.front, CLIENTS.of(false), "served");
        ends(&testbed, testbed.back, inside, "served");
        // Linux knows none for IPv6.
        ends(&testbed, testbed.front, "2001:db8:b::77".parse().unwrap(), "served");
    }
}

#[test]
fn each_way_of_a_route_is_a_way_back() {
    let testbed = name_service().unwrap();
    let ways = "route add 172.16.0.0/16 nexthop via 10.10.10.1 dev front nexthop via 192.168.122.101 dev back";
    testbed.director.ip(&[ways]).unwrap();
    testbed.director.sysctl(&["net/ipv4/conf/all/rp_filter=1"]).unwrap();
    testbed.director.lvsadm("-Ln").unwrap();
    for last in 1..40 {
        ends(&testbed, testbed.front, IpAddr::from([172, 16, 1, last]), "served");
    }
}

/// The name of the server that answers a client.
fn answers(cluster: &Cluster) -> Result<String> {
    Ok(cluster.client().spread(SocketAddr::new(VIP, 80), 1)?.into_keys().collect())
}

#[test]
fn what_the_host_routes_on_is_left_alone_until_the_address_is_its_own() {
    let cluster = Cluster::new(Layout { servers: 2, offloads: Offloads::Off, ..Layout::default() }).unwrap();
    let director = &cluster.director;
    cluster.servers[1].ip(&["addr add 10.10.10.10/32 dev lo"]).unwrap();
    // Clients reach the address by the director, whether it has the address or not.
    cluster.client.ip(&["route add 10.10.10.10/32 via 10.10.10.9"]).unwrap();
    director.ip(&["addr del 10.10.10.10/24 dev eth0", "addr add 10.10.10.9/24 dev eth0"]).unwrap();
    director.lvsadm(&format!("-A -t {VIP}:80 -s rr")).unwrap();
    director.lvsadm(&format!("-a -t {VIP}:80 -r {}:80 -m", cluster.server_addresses(1).0)).unwrap();
    for (tier, forwards) in [("tc", 1), ("native", 1), ("tc", 0)] {
        director.lvsadm(&format!("attach --mode {tier}")).unwrap();
        director.sysctl(&[&format!("net/ipv4/ip_forward={forwards}")]).unwrap();
        director.lvsadm("-Ln").unwrap();
        director.ip(&["route add 10.10.10.10/32 via 192.168.122.102"]).unwrap();
        let before = director.exit("transit").unwrap();
        if forwards == 1 {
            assert_eq!(answers(&cluster).unwrap(), "rs2", "{tier}: routed on");
            director.lvsadm("sysctl transit=1").unwrap();
            assert_eq!(answers(&cluster).unwrap(), "rs1", "{tier}: transit=1");
            director.lvsadm("sysctl transit=0").unwrap();
        } else {
            assert!(answers(&cluster).is_err(), "the host forwards nothing");
        }
        assert!(director.exit("transit").unwrap() > before);
        // Nothing but the address: no command is run.
        director.ip(&["route del 10.10.10.10/32 via 192.168.122.102", "addr add 10.10.10.10/32 dev eth0"]).unwrap();
        assert_eq!(answers(&cluster).unwrap(), "rs1", "{tier}: its own");
        let leaves = ["addr del 10.10.10.10/32 dev eth0", "route add 10.10.10.10/32 via 192.168.122.102"];
        director.ip(&leaves).unwrap();
        if forwards == 1 {
            assert_eq!(answers(&cluster).unwrap(), "rs2", "{tier}: its own a moment ago");
        }
        director.ip(&["route del 10.10.10.10/32 via 192.168.122.102"]).unwrap();
    }
}

#[test]
fn a_loopback_address_leaves_by_no_device() -> Result<()> {
    let cluster = Cluster::new(Layout { servers: 1, ..Layout::default() })?;
    let director = &cluster.director;
    let _server = Server::http(director, 8080, "director")?;
    let wire = PacketSocket::open(&cluster.servers[0], "eth0")?;
    let (v4, v6) = cluster.server_addresses(1);
    for (service, local, remote) in [("127.0.0.1:80", "127.0.0.1:8080", v4), ("[::1]:80", "[::1]:8080", v6)] {
        let service: SocketAddr = service.parse()?;
        director.lvsadm(&format!("-A -t {service} -s rr"))?;
        director.lvsadm(&format!("-a -t {service} -r {local} -m"))?;
        let answered = Client(director).spread(service, 2)?;
        ensure!(answered == BTreeMap::from([("director".to_owned(), 2)]), "{service}: {answered:?}");
        director.lvsadm(&format!("-d -t {service} -r {local}"))?;
        director.lvsadm(&format!("-a -t {service} -r {} -m", SocketAddr::new(remote, 80)))?;
        let before = director.exit("drop-loopback")?;
        let socket =
            director.enter(|| Ok(std::net::TcpStream::connect_timeout(&service, Duration::from_secs(1)).is_ok()))?;
        ensure!(!socket && director.exit("drop-loopback")? > before, "{service} is connected with {remote}");
    }
    let is_loopback = |frame: &[u8]| frame.get(12..14) == Some(&[8, 0]) && frame.get(26) == Some(&127);
    ensure!(wire.receive(Duration::ZERO, is_loopback)?.is_none(), "a loopback address on the wire");
    Ok(())
}
