//! The segment size that real servers of tunnels tell clients: uploads work where nobody hears an ICMP "too big".

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use etherparse::{PacketHeaders, TcpOptionElement, TransportHeader};
use tests::topology::{Cluster, Layout, Namespace, PacketSocket, Site, VIP, VIP6};

const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an upload that fills many packets.
const LENGTH: usize = 200_000;
/// A classic filter that drops ICMP, and of ICMPv6 what reports packets that are too big.
const DEAF: &str = "11,40 0 0 12,21 0 2 2048,48 0 0 23,21 6 5 1,21 0 4 34525,48 0 0 20,21 0 2 58,48 0 0 54,21 1 0 2,6 0 0 4294967295,6 0 0 2,";

/// Kinds of tunnels: options of the destination, those of the real server, and bytes after the outer IP header.
const KINDS: [(&str, &str, u16); 4] = [
    ("-i", "", 0),
    ("-i --tun-type gre", "--tun-type gre", 4),
    ("-i --tun-type gue --tun-port 6080", "--tun-type gue --tun-port 6080", 12),
    ("-i --tun-type vxlan --tun-port 4789", "--tun-type vxlan --tun-port 4789", 30),
];

/// A cluster whose client hears of no packet that is too big.
fn cluster() -> Result<Cluster> {
    let cluster = Cluster::new(Layout { site: Site::Remote, servers: 1, ..Layout::default() })?;
    cluster.director.sysctl(&["net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1"])?;
    cluster.client.run("tc qdisc add dev eth0 clsact")?;
    let status = cluster
        .client
        .command("tc")
        .args(["filter", "add", "dev", "eth0", "ingress", "bpf", "da", "bytecode", DEAF])
        .status()?;
    anyhow::ensure!(status.success(), "tc refuses the filter");
    Ok(cluster)
}

/// A service whose real server is reached by a tunnel with these options.
fn serve(director: &Namespace, service: SocketAddr, real: IpAddr, options: &str) -> Result<()> {
    director.lvsadm(&format!("-A -t {service} -s rr"))?;
    director.lvsadm(&format!("-a -t {service} -r {} {options}", SocketAddr::new(real, 80))).map(drop)
}

/// The segment size in the SYN-ACK of a service, which a request asks for.
fn told(cluster: &Cluster, service: SocketAddr) -> Result<u16> {
    let wire = PacketSocket::open(&cluster.client, "eth0")?;
    let answer = cluster.client().get(service, "/")?;
    anyhow::ensure!(answer.starts_with("rs1"), "the answer is {answer:?}");
    let syn_ack = |frame: &[u8]| match PacketHeaders::from_ethernet_slice(frame).map(|headers| headers.transport) {
        Ok(Some(TransportHeader::Tcp(tcp))) => tcp.syn && tcp.ack && tcp.source_port == service.port(),
        _ => false,
    };
    let frame = wire.receive(PATIENCE, syn_ack)?.context("no SYN-ACK came")?;
    let Some(TransportHeader::Tcp(tcp)) = PacketHeaders::from_ethernet_slice(&frame)?.transport else {
        anyhow::bail!("not TCP")
    };
    tcp.options_iterator()
        .find_map(|option| match option {
            Ok(TcpOptionElement::MaximumSegmentSize(size)) => Some(size),
            _ => None,
        })
        .context("no segment size")
}

#[test]
fn uploads_through_tunnels_need_no_icmp() {
    let cluster = cluster().unwrap();
    let (director, server) = (&cluster.director, &cluster.servers[0]);
    let (v4, v6) = cluster.server_addresses(1);
    for ((options, opened, added), crossed) in KINDS.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        server.lvsadm(&format!("real-server --tun --vip {VIP} {VIP6} {opened}")).unwrap();
        for (vip, real) in [(VIP, if crossed { v6 } else { v4 }), (VIP6, if crossed { v4 } else { v6 })] {
            let what = || format!("{options} to {real} for {vip}");
            let service = SocketAddr::new(vip, 80);
            serve(director, service, real, options).unwrap();
            let fits = 1500 - if vip.is_ipv4() { 40 } else { 60 };
            let outer = if real.is_ipv4() { 20 } else { 40 };
            assert_eq!(told(&cluster, service).with_context(what).unwrap(), fits - outer - added, "{}", what());
            let answer = cluster.client().post(service, LENGTH).with_context(what).unwrap();
            assert!(answer.trim_end().ends_with(&format!(" {LENGTH}")), "{}: {answer:?}", what());
            director.lvsadm(&format!("-D -t {service}")).unwrap();
        }
        server.lvsadm("real-server --off").unwrap();
    }
}

#[test]
fn the_segment_size_stays_where_that_is_asked_for() {
    let cluster = cluster().unwrap();
    let (director, server) = (&cluster.director, &cluster.servers[0]);
    let service = SocketAddr::new(VIP, 80);
    serve(director, service, cluster.server_addresses(1).0, "-i").unwrap();
    let lowered = "mss      lowered in SYN-ACKs out of eth0, by what the tunnel takes\n";
    for (option, size, shown) in [("", 1440, true), ("--keep-mss", 1460, false), ("", 1440, true)] {
        server.lvsadm(&format!("real-server --tun --vip {VIP} {option}")).unwrap();
        assert_eq!(told(&cluster, service).unwrap(), size, "with {option:?}");
        let status = server.lvsadm("real-server --status").unwrap();
        assert_eq!(status.contains(lowered), shown, "with {option:?}: {status}");
    }
    server.lvsadm("real-server --off").unwrap();
    assert_eq!(server.run("tc filter show dev eth0 egress").unwrap(), "");
}

#[test]
fn the_segment_size_is_lowered_wherever_answers_leave() {
    let cluster = cluster().unwrap();
    let (director, server) = (&cluster.director, &cluster.servers[0]);
    // A device upon another one: answers pass both, and lose the tunnel's bytes once.
    server
        .ip(&[
            "link add link eth0 name over type macvlan mode bridge",
            "link set over up",
            "addr add 192.168.123.201/24 dev over",
        ])
        .unwrap();
    server.ip(&["route replace default via 192.168.123.1 dev over"]).unwrap();
    server.lvsadm(&format!("real-server --tun --vip {VIP} --dev eth0")).unwrap();
    let service = SocketAddr::new(VIP, 80);
    serve(director, service, cluster.server_addresses(1).0, "-i").unwrap();
    assert_eq!(told(&cluster, service).unwrap(), 1440);
}
