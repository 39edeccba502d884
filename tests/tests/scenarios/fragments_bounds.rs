//! Fragments that are not the director's, that never become a packet, or that cannot be served.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::eventually;
use tests::fixtures::{frame, port};
use tests::topology::{CLIENT, CLIENT6, Cluster, Layout, Namespace, PacketSocket, Server, Site, VIP, VIP6};

const PATIENCE: Duration = Duration::from_secs(5);
/// Longest fragment of those made by hand.
const MOST: usize = 1400;
/// Bytes of datagrams: one that is joined, and two that are too long for it.
const LENGTHS: [usize; 3] = [4000, 20_000, 60_000];

/// A socket of a host's, on one of its addresses.
fn socket(host: &Namespace, address: IpAddr) -> Result<UdpSocket> {
    let socket = host.enter(|| Ok(UdpSocket::bind((address, 0))?))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Whether a datagram comes back whole.
fn echoes(socket: &UdpSocket, datagram: &[u8]) -> Result<()> {
    let mut buffer = vec![0; 65536];
    let length = tests::uninterrupted(|| socket.recv(&mut buffer))?;
    ensure!(buffer[..length] == [b"re:", datagram].concat(), "a wrong answer of {length} bytes");
    Ok(())
}

/// Bytes that differ from their neighbours.
fn contents(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 8 + at % 8) as u8).collect()
}

/// A director between a client and a real server.
struct Bench {
    cluster: Cluster,
    wire: PacketSocket,
    director: [u8; 6],
}

impl Bench {
    fn new(site: Site) -> Result<Self> {
        let cluster = Cluster::new(Layout { site, servers: 1, ..Layout::default() })?;
        cluster.director.sysctl(&["net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1"])?;
        let wire = PacketSocket::open(&cluster.client, "eth0")?;
        let director = cluster.director.enter(|| port(cluster.front()))?.mac;
        Ok(Bench { cluster, wire, director })
    }

    /// Adds a UDP service on port 53 of both addresses, with an echo at the real server.
    fn service(&self, options: &str, translated: bool) -> Result<Vec<Server>> {
        let (v4, v6) = self.cluster.server_addresses(1);
        [(VIP, v4), (VIP6, v6)].into_iter().map(|(vip, real)| self.add(vip, real, options, translated)).collect()
    }

    fn add(&self, vip: IpAddr, real: IpAddr, options: &str, translated: bool) -> Result<Server> {
        let (service, server) = (SocketAddr::new(vip, 53), SocketAddr::new(real, 53));
        self.cluster.director.lvsadm(&format!("-A -u {service} -s rr"))?;
        self.cluster.director.lvsadm(&format!("-a -u {service} -r {server} {options}"))?;
        Server::echo(&self.cluster.servers[0], if translated { real } else { vip }, 53, "re:")
    }

    fn send(&self, packet: &[u8]) -> Result<()> {
        self.wire.send(&frame::ethernet(self.director, [2, 0, 0, 0, 0, 1], packet))
    }

    /// The fragments of a datagram.
    fn fragments(from: SocketAddr, to: SocketAddr, datagram: &[u8], id: u16) -> Vec<Vec<u8>> {
        let packet = frame::ip(from.ip(), to.ip(), 0, 64, frame::UDP, &frame::udp(from, to, datagram));
        frame::fragments(&packet, id, MOST)
    }

    /// Sends `count` first fragments of different packets for the service, from `sources` addresses.
    fn send_lone(&self, count: u16, sources: u8, begin: u16) -> Result<()> {
        (0..count).try_for_each(|number| {
            let source = Ipv4Addr::new(10, 10, 10, 100 + (number % u16::from(sources)) as u8);
            let (from, to) = (SocketAddr::new(source.into(), 4444), SocketAddr::new(VIP, 53));
            self.send(&Self::fragments(from, to, &contents(2000), begin.wrapping_add(number))[0])
        })
    }

    fn exit(&self, name: &str) -> u64 {
        self.cluster.director.exit(name).unwrap()
    }
}

#[test]
fn fragments_of_no_service_and_no_connection_are_the_stacks() {
    let bench = Bench::new(Site::BehindDirector).unwrap();
    let _service = bench.service("-m", true).unwrap();
    let cluster = &bench.cluster;
    let (real4, real6) = cluster.server_addresses(1);
    for (vip, client, real) in [(VIP, CLIENT, real4), (VIP6, CLIENT6, real6)] {
        let _own = Server::echo(&cluster.director, vip, 6000, "re:").unwrap();
        let _clients = Server::echo(&cluster.client, client, 6000, "re:").unwrap();
        for length in LENGTHS {
            let datagram = contents(length);
            let asking = socket(&cluster.client, client).unwrap();
            let to = SocketAddr::new(vip, 6000);
            asking.send_to(&datagram, to).unwrap();
            echoes(&asking, &datagram).unwrap();
            for packet in Bench::fragments(asking.local_addr().unwrap(), to, &datagram, length as u16).iter().rev() {
                bench.send(packet).unwrap();
            }
            echoes(&asking, &datagram).with_context(|| format!("{length} bytes backwards to {vip}")).unwrap();
            let asking = socket(&cluster.servers[0], real).unwrap();
            asking.send_to(&datagram, (client, 6000)).unwrap();
            echoes(&asking, &datagram).with_context(|| format!("{length} bytes from {real}")).unwrap();
        }
    }
    assert_eq!((bench.exit("fragmented"), bench.exit("nat"), bench.exit("nat-reply")), (0, 0, 0));
}

#[test]
fn lone_fragments_keep_no_packet_out_and_reach_no_server() {
    let bench = Bench::new(Site::BehindDirector).unwrap();
    let _service = bench.service("-m", true).unwrap();
    let server = PacketSocket::open(&bench.cluster.servers[0], "eth0").unwrap();
    let asking = socket(&bench.cluster.client, CLIENT).unwrap();
    let to = SocketAddr::new(VIP, 53);
    asking.send_to(b"hello", to).unwrap();
    echoes(&asking, b"hello").unwrap();
    // More than there is room for, from one source and from many.
    bench.send_lone(20_000, 1, 0).unwrap();
    bench.send_lone(20_000, 100, 20_000).unwrap();
    for length in LENGTHS {
        asking.send_to(&contents(length), to).unwrap();
        echoes(&asking, &contents(length)).with_context(|| format!("{length} bytes")).unwrap();
    }
    // Between the fragments of a packet, too.
    let datagram = contents(4000);
    for (number, packet) in Bench::fragments(asking.local_addr().unwrap(), to, &datagram, 7).iter().enumerate() {
        bench.send(packet).unwrap();
        bench.send_lone(60, 1, 41_000 + 100 * number as u16).unwrap();
        bench.send_lone(600, 100, 42_000 + 1000 * number as u16).unwrap();
    }
    echoes(&asking, &datagram).unwrap();
    assert!(bench.exit("drop-fragment-aged") > 30_000);
    let is_lone = |frame: &[u8]| frame[12..14] == [8, 0] && frame[26..29] == [10, 10, 10] && frame[29] >= 100;
    assert!(server.receive(Duration::ZERO, is_lone).unwrap().is_none());
    let status = bench.cluster.director.json("status --json").unwrap();
    let fragments = &status["fragments"];
    assert_eq!((fragments["cells"].as_u64(), fragments["datagrams"].as_u64()), (Some(4096), Some(16_384)));
    assert!(fragments["waiting"].as_u64().is_some_and(|waiting| waiting > 3000), "{fragments}");
}

/// The kernel's neighbour output keeps all of them until the neighbour answers.
#[test]
fn all_fragments_of_a_first_packet_reach_a_neighbour_that_was_not_known() {
    for (site, options) in [(Site::BehindDirector, "-m"), (Site::BesideDirector, "-g")] {
        let bench = Bench::new(site).unwrap();
        if site == Site::BesideDirector {
            bench.cluster.servers[0].lvsadm(&format!("real-server --dr --vip {VIP} {VIP6}")).unwrap();
        }
        let _service = bench.service(options, site == Site::BehindDirector).unwrap();
        for (vip, client) in [(VIP, CLIENT), (VIP6, CLIENT6)] {
            for length in LENGTHS {
                bench.cluster.director.ip(&["neigh flush dev eth1"]).unwrap();
                let asking = socket(&bench.cluster.client, client).unwrap();
                asking.send_to(&contents(length), (vip, 53)).unwrap();
                echoes(&asking, &contents(length))
                    .with_context(|| format!("{options}, {vip}, {length} bytes"))
                    .unwrap();
            }
        }
    }
}

/// One-packet scheduling keeps no connection that would tell where later fragments go.
#[test]
fn one_packet_scheduling_sends_every_fragment_to_the_same_server() {
    let cluster = Cluster::new(Layout { servers: 2, ..Layout::default() }).unwrap();
    cluster.director.sysctl(&["net/ipv4/ip_forward=1"]).unwrap();
    let service = SocketAddr::new(VIP, 53);
    cluster.director.lvsadm(&format!("-A -u {service} -s rr -o")).unwrap();
    let servers = [1, 2].map(|number| {
        let (real, _) = cluster.server_addresses(number);
        cluster.director.lvsadm(&format!("-a -u {service} -r {real}:53 -m")).unwrap();
        Server::echo(&cluster.servers[number - 1], real, 53, "re:").unwrap()
    });
    for length in LENGTHS.into_iter().cycle().take(6) {
        let asking = socket(&cluster.client, CLIENT).unwrap();
        asking.send_to(&contents(length), service).unwrap();
        echoes(&asking, &contents(length)).with_context(|| format!("{length} bytes")).unwrap();
    }
    drop(servers);
}

#[test]
fn every_refusal_of_a_fragment_has_a_name_of_its_own() {
    let bench = Bench::new(Site::Remote).unwrap();
    let cluster = &bench.cluster;
    for local in ["192.168.122.100", "2001:db8:b::100"] {
        cluster.director.lvsadm(&format!("--add-laddr -z {local}")).unwrap();
    }
    let (_, v6) = cluster.server_addresses(1);
    let _service = bench.add(VIP, v6, "--fullnat", true).unwrap();
    let to = SocketAddr::new(VIP, 53);
    let asking = socket(&cluster.client, CLIENT).unwrap();
    asking.send_to(&contents(4000), to).unwrap();
    echoes(&asking, &contents(4000)).unwrap();
    // A real server of the other family takes joined packets only.
    asking.send_to(&contents(20_000), to).unwrap();
    eventually("a long packet is refused", || bench.exit("drop-fragment-long") > 0);

    let from = asking.local_addr().unwrap();
    let fragments = |id| Bench::fragments(from, to, &contents(4000), id);
    let overlapping = frame::fragments(
        &frame::ip(from.ip(), to.ip(), 0, 64, frame::UDP, &frame::udp(from, to, &contents(4000))),
        1,
        MOST - 200,
    );
    bench.send(&fragments(1)[0]).unwrap();
    bench.send(&overlapping[1]).unwrap();
    // The others are refused with it.
    bench.send(&fragments(1)[2]).unwrap();
    eventually("overlapping fragments are refused", || bench.exit("drop-fragment-overlap") == 2);

    let packet = frame::ip(from.ip(), to.ip(), 0, 64, frame::UDP, &frame::udp(from, to, &contents(4000)));
    for fragment in frame::fragments(&packet, 2, 28) {
        bench.send(&fragment).unwrap();
    }
    eventually("many fragments are refused", || bench.exit("drop-fragment-many") > 0);

    let mut odd = fragments(3).remove(0);
    odd.truncate(odd.len() - 1);
    let length = odd.len() as u16;
    odd[2..4].copy_from_slice(&length.to_be_bytes());
    odd[10..12].fill(0);
    let sum = frame::internet_checksum(&odd[..20]);
    odd[10..12].copy_from_slice(&sum.to_be_bytes());
    bench.send(&odd).unwrap();
    eventually("an odd fragment is refused", || bench.exit("drop-fragment-malformed") == 1);
    assert_eq!(bench.exit("drop-malformed"), 0);
}

/// Sends first fragments to the service, each of a packet of its own, 100,000 a second until told to stop: how many a second.
fn flood(bench: &Bench, vip: IpAddr, sources: u32, stop: &AtomicBool) -> Result<u32> {
    const BATCH: u32 = 100;
    let client = if vip.is_ipv4() { CLIENT } else { CLIENT6 };
    let first = &Bench::fragments(SocketAddr::new(client, 4444), SocketAddr::new(vip, 53), &contents(2000), 1)[0];
    let mut packet = first.clone();
    let began = Instant::now();
    let mut sent = 0u32;
    while !stop.load(Ordering::Relaxed) {
        for number in sent..sent + BATCH {
            let source = (number % sources) as u16;
            if vip.is_ipv4() {
                packet[4..6].copy_from_slice(&((number / sources) as u16).to_be_bytes());
                packet[10..16].copy_from_slice(&[[0, 0], [10, 77], source.to_be_bytes()].concat());
                let sum = frame::internet_checksum(&packet[..20]);
                packet[10..12].copy_from_slice(&sum.to_be_bytes());
            } else {
                packet[22..24].copy_from_slice(&source.to_be_bytes());
                packet[44..48].copy_from_slice(&number.to_be_bytes());
            }
            bench.send(&packet)?;
        }
        sent += BATCH;
        let due = Duration::from_micros(u64::from(sent) * 10);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
    }
    Ok((f64::from(sent) / began.elapsed().as_secs_f64()) as u32)
}

#[test]
#[ignore = "it measures for a minute: docs/numbers has what it prints"]
fn the_share_of_an_honest_client_among_lone_fragments() {
    /// Datagrams of the client, one after the other.
    const DATAGRAMS: u32 = 500;
    let bench = Bench::new(Site::BehindDirector).unwrap();
    bench.cluster.director.sysctl(&["net/ipv4/conf/all/rp_filter=0", "net/ipv4/conf/eth0/rp_filter=0"]).unwrap();
    let _service = bench.service("-m", true).unwrap();
    println!(
        "| Family | Sources of the flood | Fragments a second | Datagrams | Lost | Fragments that gave way |\n|---|---|---|---|---|---|"
    );
    for (vip, client) in [(VIP, CLIENT), (VIP6, CLIENT6)] {
        for sources in [1, 100, 65_536] {
            let asking = socket(&bench.cluster.client, client).unwrap();
            asking.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            let to = SocketAddr::new(vip, 53);
            asking.send_to(b"hello", to).unwrap();
            echoes(&asking, b"hello").unwrap();
            let (stop, before) = (AtomicBool::new(false), bench.exit("drop-fragment-aged"));
            let (lost, rate) = std::thread::scope(|scope| {
                let flood = scope.spawn(|| flood(&bench, vip, sources, &stop));
                // The table is full of the flood's fragments first.
                std::thread::sleep(Duration::from_secs(1));
                let ask = |number: u32| {
                    let datagram = contents(4000 + number as usize);
                    asking.send_to(&datagram, to).is_err() || echoes(&asking, &datagram).is_err()
                };
                let lost = (0..DATAGRAMS).filter(|number| ask(*number)).count();
                stop.store(true, Ordering::Relaxed);
                (lost, flood.join().unwrap().unwrap())
            });
            let aged = bench.exit("drop-fragment-aged") - before;
            let family = if vip.is_ipv4() { "IPv4" } else { "IPv6" };
            println!("| {family} | {sources} | {rate} | {DATAGRAMS} of 3 fragments | {lost} | {aged} |");
        }
    }
}
