//! FullNAT end to end: what real servers, clients and the director itself see of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use tests::balanced::{TIERS, Tier};
use tests::text;
use tests::topology::{Arms, CLIENT, CLIENT6, Client, Cluster, Layout, Namespace, Nginx, Server, Site, VIP, VIP6};

/// The director's local addresses.
const LOCALS: &str = "192.168.122.100 2001:db8:b::100";
/// Bytes of a transfer that takes many packets.
const LONG: usize = 1_000_000;

/// A director with FullNAT services on a TCP port of both virtual addresses, whose real servers have that port too.
fn cluster(arms: Arms, site: Site, port: u16) -> Result<Cluster> {
    let cluster = Cluster::new(Layout { arms, site, servers: 2, ..Layout::default() })?;
    for local in LOCALS.split(' ') {
        cluster.director.lvsadm(&format!("--add-laddr -z {local}"))?;
    }
    for vip in [VIP, VIP6] {
        let service = SocketAddr::new(vip, port);
        cluster.director.lvsadm(&format!("-A -t {service} -s rr"))?;
        for number in 1..=2 {
            let server = SocketAddr::new(address(&cluster, number, vip), port);
            cluster.director.lvsadm(&format!("-a -t {service} -r {server} --fullnat"))?;
        }
    }
    Ok(cluster)
}

/// The local address in the family of another address.
fn local(like: IpAddr) -> IpAddr {
    let own = if like.is_ipv4() { "192.168.122.100" } else { "2001:db8:b::100" };
    own.parse().expect("an address")
}

/// The address of a real server in the family of another address.
fn address(cluster: &Cluster, number: usize, like: IpAddr) -> IpAddr {
    let (v4, v6) = cluster.server_addresses(number);
    if like.is_ipv4() { v4 } else { v6 }
}

/// Checks with every tier in turn.
fn each_tier(cluster: &Cluster, tiers: &[Tier], check: impl Fn() -> Result<()>) -> Result<()> {
    tiers.iter().try_for_each(|(tier, offloads)| {
        cluster.set_offloads(*offloads)?;
        cluster.director.lvsadm(&format!("attach --mode {tier}"))?;
        check().with_context(|| format!("{tier}, offloads {offloads:?}"))
    })
}

/// What an nginx answers to a client at `from`, which is the client's address and port, and the client's own idea of them.
fn ask(client: &Namespace, from: IpAddr, to: SocketAddr) -> Result<(String, String)> {
    let own = format!("--interface {from} --write-out \\n%{{local_ip}}_%{{local_port}}");
    let answer = client.run(&format!("curl --silent --show-error --globoff --max-time 20 {own} http://{to}/"))?;
    let (told, own) = answer.split_once('\n').context("half an answer")?;
    Ok((told.to_owned(), own.replace('_', " ")))
}

/// Unmodified servers log every client's own address and port, whatever carries the packets.
#[test]
fn nginx_logs_the_clients() {
    const WEB: u16 = 81;
    let cluster = cluster(Arms::Two, Site::Remote, WEB).unwrap();
    let more = ["addr add 10.10.10.2/24 dev eth0", "addr add 10.10.10.3/24 dev eth0"];
    let more6 = ["addr add 2001:db8:a::2/64 dev eth0 nodad", "addr add 2001:db8:a::3/64 dev eth0 nodad"];
    cluster.client.ip(&[more, more6].concat()).unwrap();
    let listen = [format!("{WEB}"), format!("[::]:{WEB} ipv6only=on")];
    let start = |host: &Namespace| {
        host.lvsadm(&format!("real-server --toa --trust {LOCALS}")).unwrap();
        let nginx = Nginx::start(host, host.command("nginx"), &listen.each_ref().map(String::as_str)).unwrap();
        let listens =
            || host.run("ss --numeric --listening --tcp").is_ok_and(|list| list.contains(&format!(":{WEB} ")));
        tests::eventually("nginx listens", listens);
        nginx
    };
    let servers: Vec<Nginx> = cluster.servers.iter().map(start).collect();
    let mut clients = BTreeSet::new();
    let mut count = 0;
    for (tier, offloads) in TIERS {
        cluster.set_offloads(offloads).unwrap();
        cluster.director.lvsadm(&format!("attach --mode {tier}")).unwrap();
        for (vip, net) in [(VIP, "10.10.10."), (VIP6, "2001:db8:a::")] {
            for host in [1, 2, 3, 3, 2, 1] {
                let from = format!("{net}{host}").parse().unwrap();
                let (told, own) = ask(&cluster.client, from, SocketAddr::new(vip, WEB)).unwrap();
                assert_eq!(told, own, "{tier}, offloads {offloads:?}, {vip}");
                assert!(own.starts_with(&format!("{from} ")), "the client itself says {own}");
                clients.insert(own);
                count += 1;
            }
        }
    }
    // Evenly spread, so each has half.
    let logged: Vec<String> = servers.iter().flat_map(|nginx| nginx.clients(count / servers.len())).collect();
    assert_eq!(logged.len(), count);
    assert_eq!(logged.into_iter().collect::<BTreeSet<_>>(), clients);
}

/// `client` is served by all of these servers in turn, which know it by the addresses beside their names, in short and long
/// transfers both ways.
fn is_served(client: &Namespace, web: SocketAddr, servers: &[(&str, IpAddr)]) -> Result<()> {
    let client = Client(client);
    let mut answers = BTreeMap::<String, usize>::new();
    for _ in 0..2 * servers.len() {
        *answers.entry(client.get(web, "/")?).or_default() += 1;
    }
    let even = servers.iter().map(|(name, address)| (format!("{name} {address} 0\n"), 2)).collect();
    ensure!(answers == even, "{answers:?}, not {even:?}");
    for _ in servers {
        let long = client.get(web, &format!("/bytes/{LONG}")).context("a long answer")?;
        ensure!(long.into_bytes() == text(LONG), "a long answer is not what was sent");
        let answer = client.post(web, LONG).context("a long request")?;
        ensure!(answer.ends_with(&format!(" {LONG}\n")), "not all of the request came: {answer}");
    }
    Ok(())
}

/// A real server that is a client of its own service is served by the others, and by itself.
#[test]
fn a_real_server_is_a_client() {
    for (arms, site) in [(Arms::Two, Site::Remote), (Arms::One, Site::BesideDirector)] {
        let cluster = cluster(arms, site, 80).unwrap();
        each_tier(&cluster, &[TIERS[0], TIERS[3]], || {
            for vip in [VIP, VIP6] {
                let servers = [("rs1", local(vip)), ("rs2", local(vip))];
                is_served(&cluster.servers[0], SocketAddr::new(vip, 80), &servers).with_context(|| vip.to_string())?;
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{arms:?}, {site:?}: {error:#}"));
    }
}

/// The director is a client of its own service, and one of its real servers: that one sees who it is that asks.
#[test]
fn the_director_is_a_client_and_a_real_server() {
    const WEB: u16 = 8080;
    let cluster = cluster(Arms::Two, Site::Remote, WEB).unwrap();
    let start = |host, name| Server::http(host, WEB, name).unwrap();
    let _servers = [start(&cluster.servers[0], "rs1"), start(&cluster.servers[1], "rs2")];
    let check = |own: bool| {
        each_tier(&cluster, &[TIERS[0], TIERS[2], TIERS[3]], || {
            for (vip, client) in [(VIP, CLIENT), (VIP6, CLIENT6)] {
                // It talks to its own address, so that is what it comes from.
                for (host, address) in [(&cluster.client, client), (&cluster.director, vip)] {
                    let mut servers = vec![("rs1", local(vip)), ("rs2", local(vip))];
                    if own {
                        servers.push(("director", address));
                    }
                    is_served(host, SocketAddr::new(vip, WEB), &servers)
                        .with_context(|| format!("{vip} from {address}"))?;
                }
            }
            Ok(())
        })
        .unwrap();
    };
    check(false);
    let _own = start(&cluster.director, "director");
    for vip in [VIP, VIP6] {
        let (service, server) = (SocketAddr::new(vip, WEB), SocketAddr::new(local(vip), WEB));
        cluster.director.lvsadm(&format!("-a -t {service} -r {server} --fullnat")).unwrap();
    }
    check(true);
}

/// Frames are three times as long on one side of the director as on the other. Nothing that is sent is too long for what is in
/// between with the client's address in it, as both ends were told.
#[test]
fn segments_leave_room_for_the_option() {
    const SIDES: [&[&str]; 2] = [&["client", "front", "director0"], &["director1", "servers", "remote", "rs1", "rs2"]];
    let set_mtu = |host: &Namespace, devices: &[&str], mtu| {
        let set = |device: &&str| format!("link set {device} mtu {mtu}");
        host.ip(&devices.iter().map(set).collect::<Vec<_>>()).unwrap();
    };
    let cluster = cluster(Arms::Two, Site::Remote, 80).unwrap();
    cluster.servers.iter().for_each(|host| drop(host.lvsadm(&format!("real-server --toa --trust {LOCALS}")).unwrap()));
    for mtus in [[3000, 1500], [1500, 3000]] {
        set_mtu(&cluster.client, &["eth0"], mtus[0]);
        set_mtu(&cluster.director, &["eth0"], mtus[0]);
        set_mtu(&cluster.director, &["eth1"], mtus[1]);
        cluster.servers.iter().for_each(|host| set_mtu(host, &["eth0"], mtus[1]));
        SIDES.iter().zip(mtus).for_each(|(devices, mtu)| set_mtu(&cluster.router, devices, mtu));
        let is_told = || {
            for (vip, client) in [(VIP, CLIENT), (VIP6, CLIENT6)] {
                let servers = [("rs1", client), ("rs2", client)];
                is_served(&cluster.client, SocketAddr::new(vip, 80), &servers).with_context(|| vip.to_string())?;
            }
            Ok(())
        };
        let roomless = || cluster.director.exit("toa-no-room").unwrap();
        let before = roomless();
        each_tier(&cluster, &TIERS[..3], is_told).unwrap_or_else(|error| panic!("{mtus:?}: {error:#}"));
        assert_eq!(roomless(), before, "{mtus:?}");
        // What is to be cut by a device later on goes without, behind a handshake that has it.
        each_tier(&cluster, &TIERS[3..], is_told).unwrap_or_else(|error| panic!("{mtus:?}: {error:#}"));
    }
}
