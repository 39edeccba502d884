//! Datagrams that a sender hands to the kernel in one buffer (`UDP_SEGMENT`), as QUIC and DNS servers do: they arrive as they were sent.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};
use tests::eventually;
use tests::topology::{CLIENT, CLIENT6, Cluster, Layout, Namespace, Offloads, Server, Site, VIP, VIP6};

const PORT: u16 = 53;
/// Datagrams of a buffer.
const COUNT: usize = 5;
const PATIENCE: Duration = Duration::from_secs(5);
const MTU: usize = 1500;
/// Whether the director's devices cut UDP's segments, or the kernel does before it hands them over.
const SEGMENTERS: [&str; 2] = ["on", "off"];

/// A way of forwarding.
struct Way {
    site: Site,
    /// Options of the real servers, for each family.
    options: [String; 2],
    /// What the real server runs, if anything.
    real_server: Option<String>,
    /// Bytes that the way adds to a packet, for each family.
    added: [usize; 2],
    /// Whether the real server has the service at its own address.
    translated: bool,
    /// Whether the real server is of the other family.
    crossed: bool,
}

impl Way {
    fn direct() -> Way {
        let real_server = Some(format!("--dr --vip {VIP} {VIP6}"));
        Way { real_server, translated: false, ..Way::translated(Site::BesideDirector, "-g") }
    }

    fn translated(site: Site, option: &str) -> Way {
        let options = [option.to_owned(), option.to_owned()];
        Way { site, options, real_server: None, added: [0, 0], translated: true, crossed: false }
    }

    /// A tunnel whose headers after the outer IP header take so many bytes.
    fn tunnel(options: &str, real_server: &str, added: usize, crossed: bool) -> Way {
        let real_server = Some(format!("--tun --vip {VIP} {VIP6} {real_server}"));
        let outer = if crossed { [40, 20] } else { [20, 40] };
        let added = outer.map(|outer| outer + added);
        Way { real_server, added, crossed, translated: false, ..Way::translated(Site::Remote, options) }
    }
}

/// A cluster with one real server, which says of each datagram how many of its bytes are right.
struct Bench {
    _servers: Vec<Server>,
    cluster: Cluster,
    added: [usize; 2],
}

impl Bench {
    fn new(way: &Way) -> Result<Bench> {
        let cluster = Cluster::new(Layout { site: way.site, servers: 1, ..Layout::default() })?;
        let (director, server) = (&cluster.director, &cluster.servers[0]);
        director.sysctl(&["net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1"])?;
        director.lvsadm("attach --mode tc")?;
        if let Some(arguments) = &way.real_server {
            server.lvsadm(&format!("real-server {arguments}"))?;
        }
        for local in ["192.168.122.100", "2001:db8:b::100"] {
            director.lvsadm(&format!("--add-laddr -z {local}"))?;
        }
        let (v4, v6) = cluster.server_addresses(1);
        let reals = if way.crossed { [v6, v4] } else { [v4, v6] };
        let mut servers = Vec::new();
        for ((vip, real), options) in [VIP, VIP6].into_iter().zip(reals).zip(&way.options) {
            let (service, real_port) = (SocketAddr::new(vip, PORT), SocketAddr::new(real, PORT));
            director.lvsadm(&format!("-A -u {service} -s rr"))?;
            director.lvsadm(&format!("-a -u {service} -r {real_port} {options}"))?;
            servers.push(Server::udp(server, if way.translated { real } else { vip }, PORT, "rs1")?);
        }
        Ok(Bench { _servers: servers, cluster, added: way.added })
    }

    /// Datagrams of several sizes, the longest that fit among them, with every kind of device.
    fn serves(&self) -> Result<()> {
        for segmenter in SEGMENTERS {
            let director = &self.cluster.director;
            for device in director.cables()? {
                director.run(&format!("ethtool -K {device} tx-udp-segmentation {segmenter}"))?;
            }
            for (number, (vip, client)) in [(VIP, CLIENT), (VIP6, CLIENT6)].into_iter().enumerate() {
                let most = MTU - self.added[number] - if vip.is_ipv4() { 28 } else { 48 };
                for length in [200, most - 13, most] {
                    let what = || format!("{length} bytes to {vip}, segmentation by devices {segmenter}");
                    self.asks(vip, client, length).with_context(what)?;
                }
            }
        }
        Ok(())
    }

    /// Sends datagrams of this length in one buffer and waits for an answer to each.
    fn asks(&self, vip: IpAddr, client: IpAddr, length: usize) -> Result<()> {
        let socket = socket(&self.cluster.client, SocketAddr::new(client, 0))?;
        socket.connect(SocketAddr::new(vip, PORT))?;
        // A single one makes neighbours known.
        socket.send(&tests::text(length))?;
        right(&socket, length).context("a datagram of its own")?;
        send_segments(&socket, None, length)?;
        (0..COUNT).try_for_each(|number| right(&socket, length).with_context(|| format!("datagram {number}")))
    }
}

fn socket(host: &Namespace, address: SocketAddr) -> Result<UdpSocket> {
    let socket = host.enter(|| Ok(UdpSocket::bind(address)?))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Sends [`COUNT`] datagrams of this length in one buffer.
fn send_segments(socket: &UdpSocket, to: Option<SocketAddr>, length: usize) -> Result<()> {
    setsockopt(socket, UdpGsoSegment, &(length as i32))?;
    let buffer = tests::text(length).repeat(COUNT);
    let sent = match to {
        Some(to) => socket.send_to(&buffer, to)?,
        None => socket.send(&buffer)?,
    };
    setsockopt(socket, UdpGsoSegment, &0)?;
    ensure!(sent == buffer.len(), "{sent} bytes sent");
    Ok(())
}

/// Receives an answer to a datagram of which that many bytes were right.
fn right(socket: &UdpSocket, length: usize) -> Result<()> {
    let mut buffer = vec![0; 65536];
    let received = tests::uninterrupted(|| socket.recv(&mut buffer))?;
    let answer = String::from_utf8_lossy(&buffer[..received]).into_owned();
    ensure!(answer.trim_end().ends_with(&format!(" {length}")), "the answer is {answer:?}");
    Ok(())
}

#[test]
fn datagrams_sent_at_once_arrive_one_by_one_through_nat() {
    Bench::new(&Way::translated(Site::BehindDirector, "-m")).unwrap().serves().unwrap();
}

#[test]
fn datagrams_sent_at_once_arrive_one_by_one_by_direct_routing() {
    Bench::new(&Way::direct()).unwrap().serves().unwrap();
}

#[test]
fn datagrams_sent_at_once_arrive_one_by_one_through_fullnat() {
    for crossed in [false, true] {
        let added = if crossed { [20, 0] } else { [0, 0] };
        let way = Way { crossed, added, ..Way::translated(Site::Remote, "--fullnat") };
        Bench::new(&way).unwrap().serves().with_context(|| format!("crossed: {crossed}")).unwrap();
    }
}

#[test]
fn datagrams_sent_at_once_arrive_one_by_one_through_tunnels() {
    let kinds = [
        ("-i", "", 0),
        ("-i --tun-type gre", "--tun-type gre", 4),
        ("-i --tun-type gre --tun-csum", "--tun-type gre", 8),
        ("-i --tun-type gue --tun-port 6080", "--tun-type gue --tun-port 6080", 12),
        ("-i --tun-type gue --tun-port 6080 --tun-csum", "--tun-type gue --tun-port 6080", 12),
        ("-i --tun-type vxlan --tun-port 4789", "--tun-type vxlan --tun-port 4789", 30),
    ];
    for ((options, real_server, added), crossed) in kinds.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        let way = Way::tunnel(options, real_server, added, crossed);
        Bench::new(&way).unwrap().serves().with_context(|| format!("{options}, crossed: {crossed}")).unwrap();
    }
}

/// No router on the way cuts the buffer, and no device needs to: the real server gets it whole.
#[test]
fn a_real_server_opens_a_tunnel_with_many_datagrams_in_one_buffer() {
    for (options, real_server) in [
        ("-i", ""),
        ("-i --tun-type gre", "--tun-type gre"),
        ("-i --tun-type gue --tun-port 6080", "--tun-type gue --tun-port 6080"),
        ("-i --tun-type gue --tun-port 6080 --tun-remcsum", "--tun-type gue --tun-port 6080"),
        ("-i --tun-type vxlan --tun-port 4789", "--tun-type vxlan --tun-port 4789"),
    ] {
        for crossed in [false, true] {
            let way = Way { site: Site::BesideDirector, ..Way::tunnel(options, real_server, 0, crossed) };
            let bench = Bench::new(&way).unwrap();
            for (vip, client) in [(VIP, CLIENT), (VIP6, CLIENT6)] {
                bench.asks(vip, client, 1000).with_context(|| format!("{options}, {vip}, crossed: {crossed}")).unwrap();
            }
        }
    }
}

#[test]
fn answers_sent_at_once_arrive_one_by_one() {
    for (site, option) in [(Site::BehindDirector, "-m"), (Site::Remote, "--fullnat")] {
        let cluster = Cluster::new(Layout { site, servers: 1, ..Layout::default() }).unwrap();
        cluster.director.sysctl(&["net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1"]).unwrap();
        for local in ["192.168.122.100", "2001:db8:b::100"] {
            cluster.director.lvsadm(&format!("--add-laddr -z {local}")).unwrap();
        }
        let (v4, v6) = cluster.server_addresses(1);
        for (vip, real, client) in [(VIP, v4, CLIENT), (VIP6, v6, CLIENT6)] {
            let (service, real) = (SocketAddr::new(vip, PORT), SocketAddr::new(real, PORT));
            cluster.director.lvsadm(&format!("-A -u {service} -s rr")).unwrap();
            cluster.director.lvsadm(&format!("-a -u {service} -r {real} {option}")).unwrap();
            let (asking, answering) = (
                socket(&cluster.client, SocketAddr::new(client, 0)).unwrap(),
                socket(&cluster.servers[0], real).unwrap(),
            );
            asking.send_to(b"please", service).unwrap();
            let (_, from) = answering.recv_from(&mut [0; 100]).unwrap();
            let length = MTU - if vip.is_ipv4() { 28 } else { 48 };
            send_segments(&answering, Some(from), length).unwrap();
            for number in 0..COUNT {
                let mut buffer = vec![0; 65536];
                let received = tests::uninterrupted(|| asking.recv(&mut buffer))
                    .unwrap_or_else(|e| panic!("{option}, {vip}, {number}: {e}"));
                assert_eq!(buffer[..received], tests::text(length)[..], "{option}, {vip}, datagram {number}");
            }
        }
    }
}

/// The tunnel may be fragmented (`pmtu_disc=0`); cut into fragments, a buffer of datagrams would arrive as one.
#[test]
fn datagrams_sent_at_once_that_do_not_fit_are_refused_not_joined() {
    let bench = Bench::new(&Way::tunnel("-i", "", 0, false)).unwrap();
    let (director, length) = (&bench.cluster.director, MTU - 28);
    director.lvsadm("sysctl pmtu_disc=0").unwrap();
    let socket = socket(&bench.cluster.client, SocketAddr::new(CLIENT, 0)).unwrap();
    socket.connect(SocketAddr::new(VIP, PORT)).unwrap();
    socket.send(&tests::text(100)).unwrap();
    right(&socket, 100).unwrap();
    let refused = || director.exit("icmp-sent").unwrap();
    let (before, fragmented) = (refused(), director.exit("fragmented").unwrap());
    send_segments(&socket, None, length).unwrap();
    eventually("the buffer is refused", || refused() > before);
    assert_eq!(director.exit("fragmented").unwrap(), fragmented);
}

/// Drivers run XDP on frames of a page only, unless a program declares that it takes others.
#[test]
fn a_device_whose_frames_are_longer_than_a_page_is_served_by_tc_and_says_why() {
    const LONG: usize = 9000;
    let ways = [
        Way::translated(Site::BehindDirector, "-m"),
        Way::direct(),
        Way::translated(Site::Remote, "--fullnat"),
        Way::tunnel("-i", "", 0, false),
    ];
    for way in &ways {
        let bench = Bench::new(way).unwrap();
        let cluster = &bench.cluster;
        cluster.set_offloads(Offloads::Off).unwrap();
        for host in [&cluster.client, &cluster.director, &cluster.router].into_iter().chain(&cluster.servers) {
            for device in host.cables().unwrap() {
                host.ip(&[&format!("link set {device} mtu {LONG}")]).unwrap();
            }
        }
        cluster.director.lvsadm("attach --mode native").unwrap();
        let status = cluster.director.lvsadm("status").unwrap();
        let line = status.lines().find(|line| line.starts_with("eth0 ")).unwrap();
        assert!(line.contains(" tc ") && line.ends_with("the MTU is 9000"), "{line}");
        for (number, (vip, client)) in [(VIP, CLIENT), (VIP6, CLIENT6)].into_iter().enumerate() {
            let most = LONG - bench.added[number] - if vip.is_ipv4() { 28 } else { 48 };
            let socket = socket(&cluster.client, SocketAddr::new(client, 0)).unwrap();
            socket.connect(SocketAddr::new(vip, PORT)).unwrap();
            for length in [200, 3000, most] {
                socket.send(&tests::text(length)).unwrap();
                right(&socket, length).with_context(|| format!("{:?}, {vip}, {length} bytes", way.options)).unwrap();
            }
        }
    }
}
