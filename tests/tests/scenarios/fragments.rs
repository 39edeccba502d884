//! Datagrams that take several packets: in both directions, whatever order their fragments come in.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::eventually;
use tests::fixtures::{frame, port};
use tests::topology::{
    CLIENT, CLIENT6, Cluster, Fate, Layout, Namespace, Offloads, PacketSocket, Server, Site, VIP, VIP6,
};

/// How packets are carried, and what devices do for their hosts.
const TIERS: [(&str, Offloads); 3] = [("native", Offloads::Off), ("tc", Offloads::Off), ("tc", Offloads::On)];
/// Bytes of datagrams: one that needs no fragments and makes neighbours known, and three that take 3, 7 and 11.
const LENGTHS: [usize; 4] = [10, 3000, 9000, 15000];
/// Bytes of datagrams that are too long to be joined.
const LONG: [usize; 3] = [16_000, 40_000, 65_000];
/// Longest fragment of those made by hand: a tunnel over IPv6 carries it.
const MOST: usize = 1400;
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes that tell if they have been mixed up.
fn contents(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 8 + at % 8) as u8).collect()
}

/// A socket of a host's, on one of its addresses.
fn socket(host: &Namespace, address: SocketAddr) -> Result<UdpSocket> {
    let socket = host.enter(|| Ok(UdpSocket::bind(address)?))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// What a socket receives next, and from whom.
fn receive_from(socket: &UdpSocket) -> Result<(Vec<u8>, SocketAddr)> {
    let mut buffer = vec![0; 65536];
    let (length, from) = tests::uninterrupted(|| socket.recv_from(&mut buffer))?;
    buffer.truncate(length);
    Ok((buffer, from))
}

/// What a socket receives next.
fn receive(socket: &UdpSocket) -> Result<Vec<u8>> {
    Ok(receive_from(socket)?.0)
}

/// Sends a datagram in fragments from a host's `eth0` to `mac`, the last one first.
fn send_backwards(host: &Namespace, mac: [u8; 6], ends: (SocketAddr, SocketAddr), datagram: &[u8]) -> Result<()> {
    let segment = frame::udp(ends.0, ends.1, datagram);
    let packet = frame::ip(ends.0.ip(), ends.1.ip(), 0, 64, frame::UDP, &segment);
    let wire = PacketSocket::open(host, "eth0")?;
    let fragments = frame::fragments(&packet, datagram.len() as u16, MOST);
    ensure!(fragments.len() > 2, "not many fragments");
    fragments.iter().rev().try_for_each(|packet| wire.send(&frame::ethernet(mac, [2, 0, 0, 0, 0, 1], packet)))
}

/// A cluster with one real server, which sends every datagram back behind `re:`.
struct Echo {
    _servers: Vec<Server>,
    cluster: Cluster,
}

impl Echo {
    /// `options`: of the destination, for each family. `translated`: the real server has the service at its own address.
    fn new(
        site: Site,
        options: [&str; 2],
        translated: bool,
        set_up: impl Fn(&Namespace) -> Result<()>,
    ) -> Result<Self> {
        Self::between(site, options, translated, false, set_up)
    }

    /// The same; `crossed`: the real server is of the other family.
    fn between(
        site: Site,
        options: [&str; 2],
        translated: bool,
        crossed: bool,
        set_up: impl Fn(&Namespace) -> Result<()>,
    ) -> Result<Self> {
        let cluster = Cluster::new(Layout { site, servers: 1, ..Layout::default() })?;
        cluster.director.sysctl(&["net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1"])?;
        set_up(&cluster.servers[0])?;
        let mut servers = Vec::new();
        let (v4, v6) = cluster.server_addresses(1);
        let (behind4, behind6) = if crossed { (v6, v4) } else { (v4, v6) };
        for ((vip, real), options) in [(VIP, behind4), (VIP6, behind6)].into_iter().zip(options) {
            let (service, server) = (SocketAddr::new(vip, 53), SocketAddr::new(real, 53));
            cluster.director.lvsadm(&format!("-A -u {service} -s rr"))?;
            cluster.director.lvsadm(&format!("-a -u {service} -r {server} {options}"))?;
            servers.push(Server::echo(&cluster.servers[0], if translated { real } else { vip }, 53, "re:")?);
        }
        Ok(Echo { _servers: servers, cluster })
    }

    /// Checks with every tier in turn, for both families.
    fn each(&self, check: impl Fn(IpAddr, IpAddr) -> Result<()>) -> Result<()> {
        for (tier, offloads) in TIERS {
            self.cluster.set_offloads(offloads)?;
            self.cluster.director.lvsadm(&format!("attach --mode {tier}"))?;
            for (vip, client) in [(VIP, CLIENT), (VIP6, CLIENT6)] {
                check(vip, client).with_context(|| format!("{tier}, offloads {offloads:?}, {vip}"))?;
            }
        }
        Ok(())
    }

    /// Datagrams of any length as a host sends them, and with their fragments the last one first.
    fn serves_all(&self, vip: IpAddr, client: IpAddr) -> Result<()> {
        self.serves(vip, client, &LENGTHS)?;
        self.serves(vip, client, &LONG)
    }

    /// Datagrams that a client's device takes whole, and the way to the real server in fragments: their checksums were left to a device
    /// to finish.
    fn finishes_checksums(&self) -> Result<()> {
        self.cluster.set_offloads(Offloads::On)?;
        self.cluster.director.lvsadm("attach --mode tc")?;
        // Without DF.
        self.cluster.client.sysctl(&["net/ipv4/ip_no_pmtu_disc=1"])?;
        let (fragmented, stack) = (self.cluster.director.exit("fragmented")?, self.cluster.director.exit("stack")?);
        self.serves(VIP, CLIENT, &[1300, 1440, 1460])?;
        ensure!(self.cluster.director.exit("fragmented")? == fragmented, "cut without a checksum");
        ensure!(self.cluster.director.exit("stack")? >= stack + 2, "not left to the stack");
        Ok(())
    }

    fn serves(&self, vip: IpAddr, client: IpAddr, lengths: &[usize]) -> Result<()> {
        let (service, host) = (SocketAddr::new(vip, 53), &self.cluster.client);
        let director = self.cluster.director.enter(|| port(self.cluster.front()))?;
        for &length in lengths {
            let datagram = contents(length);
            let echoed = |socket: &UdpSocket| -> Result<()> {
                let answer = receive(socket)?;
                ensure!(answer == [&b"re:"[..], &datagram].concat(), "a wrong answer of {} bytes", answer.len());
                Ok(())
            };
            let socket = socket(host, SocketAddr::new(client, 0))?;
            socket.send_to(&datagram, service)?;
            echoed(&socket).with_context(|| format!("{length} bytes"))?;
            if length > 2 * MOST {
                send_backwards(host, director.mac, (socket.local_addr()?, service), &datagram)?;
                echoed(&socket).with_context(|| format!("{length} bytes backwards"))?;
            }
        }
        Ok(())
    }

    /// Answers that do not fit the link to the client, and may be cut.
    fn cuts_answers(&self) -> Result<()> {
        const NARROW: usize = 1400;
        for host in [&self.cluster.client, &self.cluster.director] {
            host.ip(&[format!("link set eth0 mtu {NARROW}")])?;
        }
        let socket = socket(&self.cluster.client, SocketAddr::new(CLIENT, 0))?;
        for length in [10, NARROW, 1460] {
            socket.send_to(&contents(length), SocketAddr::new(VIP, 53))?;
            let answer = receive(&socket).with_context(|| format!("{length} bytes"))?;
            ensure!(answer == [&b"re:"[..], &contents(length)].concat(), "a wrong answer of {} bytes", answer.len());
        }
        [&self.cluster.client, &self.cluster.director].iter().try_for_each(|host| host.ip(&["link set eth0 mtu 1500"]))
    }
}

/// Has a real server's IPv4 packets be ones that may be cut on their way.
fn may_be_cut(server: &Namespace) -> Result<()> {
    server.sysctl(&["net/ipv4/ip_no_pmtu_disc=1"])
}

#[test]
fn nat() {
    let echo = Echo::new(Site::BehindDirector, ["-m", "-m"], true, may_be_cut).unwrap();
    echo.each(|vip, client| echo.serves_all(vip, client)).unwrap();
    echo.each(|_, _| echo.cuts_answers()).unwrap();
    let narrow = format!("route add {}/32 dev eth1 mtu lock 1400", echo.cluster.server_addresses(1).0);
    echo.cluster.director.ip(&[narrow]).unwrap();
    eventually("datagrams arrive through a narrow way", || echo.finishes_checksums().is_ok());
}

/// Fragments of one family come in, and such of the other one leave.
#[test]
fn fullnat_between_families() {
    let echo = Echo::between(Site::Remote, ["--fullnat", "--fullnat"], true, true, |_| Ok(())).unwrap();
    for local in ["192.168.122.100", "2001:db8:b::100"] {
        echo.cluster.director.lvsadm(&format!("--add-laddr -z {local}")).unwrap();
    }
    echo.each(|vip, client| {
        // What the tier before taught them.
        echo.cluster.servers[0].forget_routes()?;
        echo.serves(vip, client, &LENGTHS)
    })
    .unwrap();
}

#[test]
fn fullnat() {
    let echo = Echo::new(Site::Remote, ["--fullnat", "--fullnat"], true, may_be_cut).unwrap();
    for local in ["192.168.122.100", "2001:db8:b::100"] {
        echo.cluster.director.lvsadm(&format!("--add-laddr -z {local}")).unwrap();
    }
    echo.each(|vip, client| echo.serves_all(vip, client)).unwrap();
    echo.each(|_, _| echo.cuts_answers()).unwrap();
    let narrow = format!("route add {}/32 via 192.168.122.1 mtu lock 1400", echo.cluster.server_addresses(1).0);
    echo.cluster.director.ip(&[narrow]).unwrap();
    eventually("datagrams arrive through a narrow way", || echo.finishes_checksums().is_ok());
}

#[test]
fn direct_routing() {
    let set_up = |server: &Namespace| server.lvsadm(&format!("real-server --dr --vip {VIP} {VIP6}")).map(drop);
    let echo = Echo::new(Site::BesideDirector, ["-g", "-g"], false, set_up).unwrap();
    echo.each(|vip, client| echo.serves_all(vip, client)).unwrap();
}

/// The tunnel's packets come in fragments, which only a host's own tunnel device puts together.
#[test]
fn tunnel() {
    let set_up = |server: &Namespace| {
        server.lvsadm(&format!("real-server --dr --vip {VIP} {VIP6}"))?;
        server.sysctl(&["net/ipv4/conf/all/rp_filter=0", "net/ipv4/conf/default/rp_filter=0"])?;
        server.ip(&[
            "link add tunnel4 address 02:00:00:00:00:01 type vxlan id 0 dstport 4789 local 192.168.123.101",
            "link add tunnel6 address 02:00:00:00:00:01 type vxlan id 0 dstport 4790 local 2001:db8:c::101 udp6zerocsumrx",
            "link set tunnel4 up",
            "link set tunnel6 up",
        ])
    };
    let options = ["-i --tun-type vxlan --tun-port 4789", "-i --tun-type vxlan --tun-port 4790"];
    let echo = Echo::new(Site::Remote, options, false, set_up).unwrap();
    echo.each(|vip, client| {
        if vip.is_ipv6() {
            // Nobody on the way cuts IPv6: the client learns what the tunnel carries from a packet that does not fit.
            echo.cluster.client.forget_routes()?;
            let fate = echo.cluster.client().probe(SocketAddr::new(vip, 53), 64, MOST + 50)?;
            ensure!(matches!(fate, Fate::Reported { mtu: 1430, .. }), "{fate:?}");
        }
        echo.serves_all(vip, client)
    })
    .unwrap();
    echo.finishes_checksums().unwrap();
}

/// What a tunnel adds makes a packet a little too long: the last fragment is shorter than the tunnel's headers.
#[test]
fn fragments_may_end_within_a_tunnels_headers() {
    const KINDS: [(&str, &str); 4] =
        [("ipip", ""), ("gre", "--tun-csum"), ("gue", "--tun-port 6080"), ("vxlan", "--tun-port 4789")];
    /// Bytes of a datagram and its headers; those of the tunnels are from 20 to 50.
    const SIZES: [usize; 4] = [1455, 1470, 1482, 1499];
    let cluster =
        Cluster::new(Layout { site: Site::Remote, servers: 1, offloads: Offloads::Off, ..Layout::default() }).unwrap();
    let client = &cluster.client;
    let wire = PacketSocket::open(&cluster.servers[0], "eth0").unwrap();
    // Without DF.
    client.sysctl(&["net/ipv4/ip_no_pmtu_disc=1"]).unwrap();
    let socket = socket(client, SocketAddr::new(CLIENT, 0)).unwrap();
    let drops = || cluster.director.exit("drop-internal").unwrap();
    for (kind, options) in KINDS {
        cluster.director.lvsadm("-A -u 10.10.10.10:53 -s rr").unwrap();
        let server = format!("-r 192.168.123.101:53 -i --tun-type {kind} {options}");
        cluster.director.lvsadm(&format!("-a -u 10.10.10.10:53 {server}")).unwrap();
        for size in SIZES {
            let datagram = vec![0; size - 28];
            socket.send_to(&datagram, SocketAddr::new(VIP, 53)).unwrap();
            // Later fragments say how far the packet goes.
            let is_last = |frame: &[u8]| {
                frame.len() > 34 && frame[12..14] == [8, 0] && frame[20..22] != [0, 0] && frame[20] & 0x60 == 0
            };
            let is_whole = |frame: &[u8]| frame.len() > 1455 && frame[12..14] == [8, 0] && frame[20] & 0x3f == 0;
            let came = wire.receive(PATIENCE, |frame| is_last(frame) || is_whole(frame)).unwrap();
            assert!(came.is_some(), "{kind}, {size} bytes");
        }
        cluster.director.lvsadm("-C").unwrap();
    }
    assert_eq!(drops(), 0);
}

/// A server whose answer's fragments overtake each other.
#[test]
fn answers_backwards() {
    let cluster = Cluster::new(Layout { servers: 1, ..Layout::default() }).unwrap();
    cluster.director.sysctl(&["net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1"]).unwrap();
    let (v4, v6) = cluster.server_addresses(1);
    let (host, director) = (&cluster.servers[0], cluster.director.enter(|| port("eth1")).unwrap());
    for local in ["192.168.122.100", "2001:db8:b::100"] {
        cluster.director.lvsadm(&format!("--add-laddr -z {local}")).unwrap();
    }
    for ((tier, offloads), mode) in TIERS.into_iter().flat_map(|tier| ["-m", "--fullnat"].map(|mode| (tier, mode))) {
        cluster.set_offloads(offloads).unwrap();
        cluster.director.lvsadm(&format!("attach --mode {tier}")).unwrap();
        for (vip, real, client) in [(VIP, v4, CLIENT), (VIP6, v6, CLIENT6)] {
            let (service, real) = (SocketAddr::new(vip, 53), SocketAddr::new(real, 53));
            cluster.director.lvsadm(&format!("-A -u {service}")).unwrap();
            cluster.director.lvsadm(&format!("-a -u {service} -r {real} {mode}")).unwrap();
            let (asking, answering) =
                (socket(&cluster.client, SocketAddr::new(client, 0)).unwrap(), socket(host, real).unwrap());
            for length in LENGTHS[1..].iter().chain(&LONG) {
                asking.send_to(b"please", service).unwrap();
                let (_, from) = receive_from(&answering).unwrap();
                let answer = contents(*length);
                send_backwards(host, director.mac, (real, from), &answer).unwrap();
                let what = format!("{tier}, {mode}, {vip}, {length} bytes");
                let got = receive(&asking).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert!(got == answer, "{what}: a wrong answer of {} bytes", got.len());
            }
            cluster.director.lvsadm(&format!("-D -u {service}")).unwrap();
        }
    }
}
