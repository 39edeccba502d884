//! Other programs and filters on the director's devices: the data plane ends nobody's chain but that of a packet which it serves.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use tests::topology::{Cluster, Layout, Observer, Offloads, Place, VIP};

/// A classic filter's program: ICMP is dropped, all else goes on.
const DROP_ICMP: &str = "6,40 0 0 12,21 0 3 2048,48 0 0 23,21 0 1 1,6 0 0 2,6 0 0 4294967295,";
const PLACES: [Place; 4] = [Place::FirstIngress, Place::LastIngress, Place::FirstEgress, Place::LastEgress];

/// A director that routes, too, and the address of its real server.
fn cluster() -> Result<(Cluster, IpAddr)> {
    let cluster = Cluster::new(Layout { servers: 1, offloads: Offloads::Off, ..Layout::default() })?;
    cluster.director.sysctl(&["net/ipv4/ip_forward=1"])?;
    cluster.client.ip(&["route add 192.168.122.0/24 via 10.10.10.10"])?;
    let server = cluster.server_addresses(1).0;
    Ok((cluster, server))
}

fn serve(cluster: &Cluster, server: IpAddr) -> Result<()> {
    cluster.director.lvsadm("-A -t 10.10.10.10:80 -s rr")?;
    cluster.director.lvsadm(&format!("-a -t 10.10.10.10:80 -r {server}:80 -m")).map(drop)
}

/// Pings the real server from the client, through the director, and the client from the director itself.
fn pings(cluster: &Cluster, server: IpAddr) -> [Result<String>; 2] {
    [cluster.client.run(&format!("ping -c 1 -W 1 {server}")), cluster.director.run("ping -c 1 -W 1 10.10.10.1")]
}

#[test]
fn programs_see_what_is_only_passed() -> Result<()> {
    let (cluster, server) = cluster()?;
    let before = PLACES.map(|place| Observer::attach(&cluster.director, "eth0", place));
    serve(&cluster, server)?;
    let after = PLACES.map(|place| Observer::attach(&cluster.director, "eth0", place));
    let observers = before.into_iter().chain(after).collect::<Result<Vec<_>>>()?;
    let counts = || observers.iter().map(Observer::count).collect::<Result<Vec<_>>>();
    for [tier, reason] in [["tc", "lvs_ingress"], ["generic", "lvs_xdp"]] {
        cluster.director.lvsadm(&format!("attach --mode {tier}"))?;
        let old = counts()?;
        for ping in pings(&cluster, server) {
            ping.context(reason)?;
        }
        let new = counts()?;
        // An echo and its answer, each twice.
        let missed = new.iter().zip(&old).any(|(new, old)| new - old < 2);
        ensure!(
            !missed,
            "{tier}: of two pings programs saw, where they are: {PLACES:?} twice, from {old:?} to {new:?}"
        );
    }
    Ok(())
}

#[test]
fn which_programs_see_what_is_served() -> Result<()> {
    let (cluster, server) = cluster()?;
    let earlier = Observer::attach(&cluster.director, "eth0", Place::LastIngress)?;
    serve(&cluster, server)?;
    cluster.director.lvsadm("attach --mode tc")?;
    let later = Observer::attach(&cluster.director, "eth0", Place::LastIngress)?;
    let sent = Observer::attach(&cluster.director, "eth0", Place::LastEgress)?;
    let served = Observer::attach(&cluster.director, "eth1", Place::LastEgress)?;
    let old = [earlier.count()?, later.count()?, sent.count()?, served.count()?];
    cluster.client().get(SocketAddr::new(VIP, 80), "/")?;
    let new = [earlier.count()?, later.count()?, sent.count()?, served.count()?];
    ensure!(new[0] > old[0], "a program before ours sees requests");
    ensure!(new[1] == old[1], "a program after ours does not see what ours took");
    ensure!(new[2] > old[2], "a program at egress sees the replies that are sent");
    ensure!(new[3] > old[3], "a program at egress sees the requests that are sent");
    Ok(())
}

#[test]
fn filters_go_on_doing_what_they_did() -> Result<()> {
    let (cluster, server) = cluster()?;
    let director = &cluster.director;
    director.run("tc qdisc add dev eth0 clsact")?;
    // Before and after ours, where ours is a filter.
    for (hook, priority) in [("ingress", 1), ("ingress", 2000), ("egress", 1), ("egress", 2000)] {
        let filter = format!("dev eth0 {hook} prio {priority} bpf da");
        let mut tc = director.command("tc");
        let words = format!("filter add {filter} bytecode");
        ensure!(tc.args(words.split(' ')).arg(DROP_ICMP).status()?.success(), "{filter}: no such filters");
        let drops = || pings(&cluster, server).iter().all(Result::is_err);
        ensure!(drops(), "{filter}: no filter");
        serve(&cluster, server)?;
        ensure!(drops(), "{filter}: passed by");
        cluster.client().get(SocketAddr::new(VIP, 80), "/").context(filter.clone())?;
        director.run(&format!("tc filter del dev eth0 {hook} prio {priority}"))?;
        for ping in pings(&cluster, server) {
            ping.with_context(|| filter.clone())?;
        }
        director.lvsadm("-C")?;
        director.lvsadm("unload")?;
    }
    Ok(())
}

#[test]
fn anothers_xdp_program_stays_and_is_named() -> Result<()> {
    let (cluster, server) = cluster()?;
    let director = &cluster.director;
    let other = Observer::attach(director, "eth0", Place::Xdp)?;
    serve(&cluster, server)?;
    let status = director.lvsadm("status")?;
    let line = status.lines().find(|line| line.starts_with("eth0 ")).context("eth0 is not attached")?;
    ensure!(line.contains(" tc ") && line.contains("(observer) of somebody else"), "{line}");
    let refused = director.lvsadm("attach --dev eth0 --mode generic").err().context("its place is taken")?;
    ensure!(format!("{refused:#}").contains("cannot attach XDP to eth0: XDP program"), "{refused:#}");
    let old = other.count()?;
    cluster.client().get(SocketAddr::new(VIP, 80), "/")?;
    ensure!(other.count()? > old, "the other program sees requests");
    drop(other);
    let status = director.lvsadm("status")?;
    ensure!(!status.contains("somebody else"), "{status}");
    Ok(())
}
