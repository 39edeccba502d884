//! FullNAT end to end: what real servers, clients and the director itself see of it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use tests::balanced::{TIERS, Tier};
use tests::topology::{Arms, Cluster, Layout, Namespace, Nginx, Offloads, Site, VIP, VIP6};

/// The director's local addresses.
const LOCALS: &str = "192.168.122.100 2001:db8:b::100";

/// A director with FullNAT services on a TCP port of both virtual addresses, whose real servers have that port too.
fn cluster(arms: Arms, site: Site, port: u16) -> Result<Cluster> {
    let cluster = Cluster::new(Layout { arms, site, servers: 2, offloads: Offloads::On })?;
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
