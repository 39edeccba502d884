//! Services by firewall mark: marks by rules, of packets that carry one already, and what persistence and a bypass make of
//! them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use tests::topology::{CLIENT, CLIENT6, Cluster, Datagrams, Layout, Offloads, Origin, Server, Session, VIP, VIP6};

/// Addresses that nobody has, and that are routed to the director.
fn elsewhere(v6: bool, third: u8, fourth: u8) -> IpAddr {
    if v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 0x30, third.into(), 0, 0, 0, fourth.into()).into()
    } else {
        Ipv4Addr::new(10, 30, third, fourth).into()
    }
}

/// A director between a client that sends it packets for [`elsewhere`], and real servers.
fn cluster(servers: usize) -> Result<Cluster> {
    let cluster = Cluster::new(Layout { servers, offloads: Offloads::Off, ..Layout::default() })?;
    cluster.director.sysctl(&["net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1"])?;
    cluster.client.ip(&[
        "addr add 10.10.10.2/24 dev eth0",
        "addr add 2001:db8:a::2/64 dev eth0 nodad",
        "route add 10.30.0.0/16 via 10.10.10.10",
        "route add 2001:db8:30::/48 via 2001:db8:a::10",
    ])?;
    Ok(cluster)
}

/// Checks with either tier, over either family.
fn everywhere(cluster: &Cluster, check: impl Fn(bool) -> Result<()>) -> Result<()> {
    for tier in ["tc", "native"] {
        cluster.director.lvsadm(&format!("attach --mode {tier}"))?;
        for v6 in [false, true] {
            check(v6).with_context(|| format!("{tier}, {}", if v6 { "IPv6" } else { "IPv4" }))?;
        }
    }
    Ok(())
}

/// Makes the first real server the host of `elsewhere(_, 5, 5)`.
fn own_elsewhere(cluster: &Cluster) {
    let addresses = ["addr add 10.30.5.5/32 dev lo", "addr add 2001:db8:30:5::5/128 dev lo nodad"];
    cluster.servers[0].ip(&addresses).unwrap();
}

fn six(v6: bool) -> &'static str {
    if v6 { " -6" } else { "" }
}

/// Adds a service by mark whose only real server is this one.
fn add_service(cluster: &Cluster, mark: u32, server: usize, v6: bool, options: &str) -> Result<()> {
    let service = format!("-f {mark}{}", six(v6));
    cluster.director.lvsadm(&format!("-A {service} -s rr{options}"))?;
    add_server(cluster, mark, server, v6)
}

fn add_server(cluster: &Cluster, mark: u32, server: usize, v6: bool) -> Result<()> {
    let (v4, address6) = cluster.server_addresses(server);
    let server = SocketAddr::new(if v6 { address6 } else { v4 }, 80);
    cluster.director.lvsadm(&format!("-a -f {mark}{} -r {server} -m", six(v6))).map(drop)
}

/// The client's first address of a family.
fn client(v6: bool) -> Origin {
    Origin { address: Some(if v6 { CLIENT6 } else { CLIENT }), ..Origin::default() }
}

/// The server that answers a request from a new connection.
fn answers(cluster: &Cluster, to: (IpAddr, u16), from: Option<IpAddr>) -> Result<String> {
    let address = from.or(client(!to.0.is_ipv4()).address);
    Session::open(&cluster.client, to.into(), Origin { address, ..Origin::default() })?.ask()
}

#[test]
fn the_longest_match_gives_the_mark() {
    let cluster = cluster(3).unwrap();
    let mut dns = Vec::new();
    for v6 in [false, true] {
        for (mark, server) in [(7, 1), (8, 2), (4_000_000_000, 3)] {
            add_service(&cluster, mark, server, v6, "").unwrap();
        }
        let (net, client) = if v6 { ("2001:db8:30:", "2001:db8:a::2") } else { ("10.30.", "10.10.10.2") };
        let (whole, part, host) = if v6 {
            (format!("{net}:/48"), format!("{net}7::/64"), format!("{net}7::7"))
        } else {
            (format!("{net}0.0/16"), format!("{net}7.0/24"), format!("{net}7.7"))
        };
        for rule in [
            format!("--mark 7 --to {host} --protocol tcp --dport 81-90"),
            format!("--mark 8 --to {whole} --protocol tcp"),
            format!("--mark 4000000000 --to {part}"),
            format!("--mark 7 --to {whole} --protocol udp --dport 80"),
            format!("--mark 7 --to {whole} --from {client}"),
            format!("--mark 8 --to {} --dport 81", if v6 { VIP6 } else { VIP }),
        ] {
            cluster.director.lvsadm(&format!("mark add {rule}")).unwrap();
        }
        for number in 1..=3 {
            let (v4, address6) = cluster.server_addresses(number);
            let address = if v6 { address6 } else { v4 };
            let server = &cluster.servers[number - 1];
            dns.push(Server::udp(server, address, 80, &format!("rs{number}")).unwrap());
        }
    }
    everywhere(&cluster, |v6| {
        let vip = if v6 { VIP6 } else { VIP };
        let other: IpAddr = if v6 { "2001:db8:a::2" } else { "10.10.10.2" }.parse()?;
        for (to, from, server) in [
            ((elsewhere(v6, 7, 7), 81), None, "rs1"),
            ((elsewhere(v6, 7, 7), 90), None, "rs1"),
            ((elsewhere(v6, 7, 7), 91), None, "rs3"),
            ((elsewhere(v6, 7, 7), 80), None, "rs3"),
            ((elsewhere(v6, 7, 8), 81), None, "rs3"),
            ((elsewhere(v6, 8, 1), 81), None, "rs2"),
            // A source's prefix goes before protocol and ports, and behind the destination's prefix.
            ((elsewhere(v6, 8, 1), 81), Some(other), "rs1"),
            ((elsewhere(v6, 7, 8), 81), Some(other), "rs3"),
            ((vip, 81), None, "rs2"),
        ] {
            let answer = answers(&cluster, to, from).with_context(|| format!("{to:?} from {from:?}"))?;
            ensure!(answer == server, "{answer} instead of {server} for {to:?} from {from:?}");
        }
        let datagram = |to| Datagrams::open(&cluster.client, (to, 80).into(), client(v6))?.ask();
        ensure!(datagram(elsewhere(v6, 8, 1))? == "rs1", "UDP by its protocol");
        ensure!(datagram(elsewhere(v6, 7, 1))? == "rs3", "UDP by a longer prefix");
        Ok(())
    })
    .unwrap();
}

/// The only rules are about single addresses, so the watch filter is all that lets packets be looked at.
#[test]
fn rules_come_and_go_and_what_they_led_to_stays() {
    let cluster = cluster(2).unwrap();
    let director = &cluster.director;
    for v6 in [false, true] {
        add_service(&cluster, 7, 1, v6, "").unwrap();
        // Something to delete, so that the filter is looked through.
        director.lvsadm(&format!("-A -t {} -s rr", SocketAddr::new(if v6 { VIP6 } else { VIP }, 80))).unwrap();
    }
    everywhere(&cluster, |v6| {
        let to = SocketAddr::new(elsewhere(v6, 1, 1), 80);
        let service = format!("-t {}", SocketAddr::new(if v6 { VIP6 } else { VIP }, 80));
        director.lvsadm(&format!("mark add --mark 7 --to {}", to.ip()))?;
        let mut session = Session::open(&cluster.client, to, Origin::default())?;
        ensure!(session.ask()? == "rs1", "not by the rule");
        let error = director.lvsadm(&format!("mark add --mark 8 --to {}", to.ip())).unwrap_err().to_string();
        ensure!(error.contains("there is a rule about that traffic already, which gives it mark 7"), "{error}");
        director.lvsadm(&format!("mark del --to {}", to.ip()))?;
        let error = director.lvsadm(&format!("mark del --to {}", to.ip())).unwrap_err().to_string();
        ensure!(error.contains("there is no rule about that traffic"), "{error}");
        // No new connections; the one that there is goes on, whatever else is deleted.
        ensure!(session.ask()? == "rs1", "the connection ended with the rule");
        director.lvsadm(&format!("-D {service}"))?;
        ensure!(session.ask()? == "rs1", "the connection ended with another service");
        director.lvsadm(&format!("-A {service} -s rr"))?;
        let passed = director.exit("not-ours")?;
        ensure!(Session::open(&cluster.client, to, Origin::default()).is_err(), "balanced without a rule");
        ensure!(director.exit("not-ours")? > passed, "a packet that no rule is about is none of ours");
        Ok(())
    })
    .unwrap();
    assert_eq!(director.lvsadm("mark list").unwrap(), "");
    // A rule for more addresses than the filter is told, and away again.
    director.lvsadm("mark add --mark 7 --to 10.30.0.0/16").unwrap();
    assert_eq!(answers(&cluster, (elsewhere(false, 200, 200), 80), None).unwrap(), "rs1");
    director.lvsadm("mark flush").unwrap();
    assert!(answers(&cluster, (elsewhere(false, 200, 201), 80), None).is_err());
}

#[test]
fn a_clients_ports_and_protocols_under_one_mark_have_one_server() {
    let cluster = cluster(3).unwrap();
    let mut servers = Vec::new();
    for v6 in [false, true] {
        add_service(&cluster, 7, 1, v6, " -p 300").unwrap();
        (2..=3).for_each(|server| add_server(&cluster, 7, server, v6).unwrap());
        let vip = if v6 { VIP6 } else { VIP };
        for rule in ["--protocol tcp --dport 80", "--protocol tcp --dport 443", "--protocol udp --dport 443"] {
            cluster.director.lvsadm(&format!("mark add --mark 7 --to {vip} {rule}")).unwrap();
        }
        for (number, server) in (1..).zip(&cluster.servers) {
            let (v4, address6) = cluster.server_addresses(number);
            let address = if v6 { address6 } else { v4 };
            servers.push(Server::udp(server, address, 443, &format!("rs{number}")).unwrap());
        }
    }
    for (number, server) in (1..).zip(&cluster.servers) {
        servers.push(Server::http(server, 443, &format!("rs{number}")).unwrap());
    }
    everywhere(&cluster, |v6| {
        let vip = if v6 { VIP6 } else { VIP };
        let first = answers(&cluster, (vip, 80), None)?;
        for port in [443, 80, 443] {
            let answer = answers(&cluster, (vip, port), None)?;
            ensure!(answer == first, "{answer} for port {port}, {first} before");
        }
        let answer = Datagrams::open(&cluster.client, (vip, 443).into(), client(v6))?.ask()?;
        ensure!(answer == first, "{answer} for UDP, {first} before");
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_mark_that_a_packet_carries_counts_where_no_rule_does() {
    let cluster = cluster(2).unwrap();
    let director = &cluster.director;
    // The director would send these packets somewhere.
    director.ip(&["route add 10.30.0.0/16 via 192.168.122.1", "route add 2001:db8:30::/48 via 2001:db8:b::1"]).unwrap();
    for v6 in [false, true] {
        add_service(&cluster, 7, 1, v6, "").unwrap();
        add_service(&cluster, 8, 2, v6, "").unwrap();
        director.lvsadm(&format!("mark add --mark 8 --to {}", elsewhere(v6, 2, 2))).unwrap();
        let (v4, address6) = cluster.server_addresses(1);
        let server = SocketAddr::new(if v6 { address6 } else { v4 }, 80);
        director.lvsadm(&format!("-A -f 9{} -s rr", six(v6))).unwrap();
        director.lvsadm(&format!("-a -f 9{} -r {server} -g", six(v6))).unwrap();
    }
    own_elsewhere(&cluster);
    everywhere(&cluster, |v6| {
        let answer = |to, mark| {
            let marked = Origin { mark, ..Origin::default() };
            Session::open(director, SocketAddr::new(to, 80), marked)?.ask()
        };
        ensure!(answer(elsewhere(v6, 1, 1), 7)? == "rs1", "not by SO_MARK");
        ensure!(answer(elsewhere(v6, 2, 2), 7)? == "rs2", "SO_MARK before a rule");
        // Packets that are not rewritten come by once more where they leave, as marked as before.
        let routed = director.exit("route")?;
        ensure!(answer(elsewhere(v6, 5, 5), 9)? == "rs1", "not by direct routing");
        ensure!(director.exit("route")? > routed, "it went there by itself");
        Ok(())
    })
    .unwrap();
}

#[test]
fn without_a_server_packets_go_on_to_their_destination_if_that_is_wanted() {
    let cluster = cluster(1).unwrap();
    let director = &cluster.director;
    own_elsewhere(&cluster);
    director
        .ip(&["route add 10.30.0.0/16 via 192.168.122.101", "route add 2001:db8:30::/48 via 2001:db8:b::101"])
        .unwrap();
    for v6 in [false, true] {
        director.lvsadm(&format!("-A -f 7{} -s rr", six(v6))).unwrap();
        director.lvsadm(&format!("mark add --mark 7 --to {}", elsewhere(v6, 5, 5))).unwrap();
    }
    everywhere(&cluster, |v6| {
        let to = SocketAddr::new(elsewhere(v6, 5, 5), 80);
        director.lvsadm("sysctl cache_bypass=1")?;
        let before = director.exit("bypass")?;
        let mut session = Session::open(&cluster.client, to, Origin::default())?;
        ensure!(session.ask()? == "rs1", "another server");
        ensure!(director.exit("bypass")? > before, "it did not go through the data plane");
        let address = to.ip().to_string();
        let listed = director.connections()?;
        let port = session.port()?;
        let bypassed = listed.iter().find(|c| c["client"]["port"] == port).context("not listed")?;
        ensure!(bypassed["destination"]["address"] == address.as_str(), "{bypassed}");
        director.lvsadm("sysctl cache_bypass=0")?;
        let sent = director.exit("icmp-sent")?;
        let error = Session::open(&cluster.client, to, Origin::default()).err().context("it was forwarded")?;
        ensure!(format!("{error:#}").contains("ECONNREFUSED"), "{error:#}");
        ensure!(director.exit("icmp-sent")? > sent, "nobody said that the port is unreachable");
        Ok(())
    })
    .unwrap();
}
