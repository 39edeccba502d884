//! BIG TCP: segments that are carried in packets of more than 65,535 bytes, whose length no field holds.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use tests::topology::{Cluster, Layout, Namespace, PacketSocket, Site, VIP, VIP6};

const PORT: u16 = 5001;
/// Bytes of an upload.
const LENGTH: usize = 50_000_000;
/// Longest packet that devices take.
const LONGEST: u32 = 185_000;
const PATIENCE: Duration = Duration::from_secs(20);

/// Has a device take long packets of both families. `ip` knows all four settings from version 6.3 on only.
fn take_long_packets(host: &Namespace, device: &str) -> Result<()> {
    /// `IFLA_GSO_MAX_SIZE`, `IFLA_GRO_MAX_SIZE`, `IFLA_GSO_IPV4_MAX_SIZE`, `IFLA_GRO_IPV4_MAX_SIZE`.
    const SIZES: [u16; 4] = [41, 58, 63, 64];
    /// `RTM_SETLINK`, and `NLM_F_REQUEST` with `NLM_F_ACK`.
    const SET: u16 = 19;
    const FLAGS: u16 = 5;
    host.enter(|| {
        let index = nix::net::if_::if_nametoindex(device)?;
        let route = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::empty(), SockProtocol::NetlinkRoute)?;
        for size in SIZES {
            let link = [[0; 4], index.to_ne_bytes(), [0; 4], [0; 4]].concat();
            let attribute = [&8u16.to_ne_bytes()[..], &size.to_ne_bytes(), &LONGEST.to_ne_bytes()].concat();
            let length = (16 + link.len() + attribute.len()) as u32;
            let header =
                [&length.to_ne_bytes()[..], &SET.to_ne_bytes(), &FLAGS.to_ne_bytes(), &[1, 0, 0, 0, 0, 0, 0, 0]]
                    .concat();
            send(route.as_raw_fd(), &[header, link, attribute].concat(), MsgFlags::empty())?;
            let mut answer = [0; 1024];
            let received = recv(route.as_raw_fd(), &mut answer, MsgFlags::empty())?;
            ensure!(received >= 20 && answer[16..20] == [0; 4], "the kernel refuses setting {size} of {device}");
        }
        Ok(())
    })
}

/// A server that says how many bytes came, and whether they were the right ones.
fn count(listener: TcpListener) -> Result<(usize, bool)> {
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let (mut received, mut is_right) = (0, true);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = tests::uninterrupted(|| stream.read(&mut buffer))?;
        if length == 0 {
            return Ok((received, is_right));
        }
        is_right &= buffer[..length].iter().enumerate().all(|(at, byte)| *byte == expected(received + at));
        received += length;
    }
}

/// The byte at a place of the upload.
fn expected(at: usize) -> u8 {
    (at % 251) as u8
}

/// Sends an upload from the client.
fn upload(client: &Namespace, service: SocketAddr) -> Result<()> {
    let mut stream = client.enter(|| Ok(TcpStream::connect_timeout(&service, PATIENCE)?))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let bytes: Vec<u8> = (0..LENGTH).map(expected).collect();
    Ok(stream.write_all(&bytes)?)
}

/// Uploads to both families through real servers with these options, and checks streams and counters.
fn uploads(site: Site, options: &str, real_server: &str, translated: bool, families: &[(IpAddr, bool)]) -> Result<()> {
    let cluster = Cluster::new(Layout { site, servers: 1, ..Layout::default() })?;
    let (director, server) = (&cluster.director, &cluster.servers[0]);
    director.sysctl(&["net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1"])?;
    director.lvsadm("attach --mode tc")?;
    // A bridge's netfilter cuts IPv6 packets without a length off.
    let _ = cluster.router.sysctl(&["net/bridge/bridge-nf-call-ip6tables=0", "net/bridge/bridge-nf-call-iptables=0"]);
    for host in [&cluster.client, director, server, &cluster.router] {
        for device in host.cables()? {
            take_long_packets(host, &device)?;
        }
    }
    for local in ["192.168.122.100", "2001:db8:b::100"] {
        director.lvsadm(&format!("--add-laddr -z {local}"))?;
    }
    if !real_server.is_empty() {
        server.lvsadm(&format!("real-server {real_server} --vip {VIP} {VIP6}"))?;
    }
    let (v4, v6) = cluster.server_addresses(1);
    for (vip, by_v4) in families {
        let (service, real) = (SocketAddr::new(*vip, PORT), SocketAddr::new(if *by_v4 { v4 } else { v6 }, PORT));
        director.lvsadm(&format!("-A -t {service} -s rr"))?;
        director.lvsadm(&format!("-a -t {service} -r {real} {options}"))?;
        let at = if translated { real } else { service };
        let listener = server.enter(|| Ok(TcpListener::bind(at)?))?;
        let wire = PacketSocket::open(director, "eth1")?;
        // The length field of its IP header, of either version, says nothing.
        let is_big = |frame: &[u8]| match frame.get(12..20) {
            Some([0x08, 0, _, _, length @ .., _, _]) => length == [0; 2],
            Some([0x86, 0xdd, .., a, b]) => [*a, *b] == [0; 2],
            _ => false,
        };
        let watching = thread::spawn(move || wire.receive(PATIENCE, is_big));
        let counting = thread::spawn(move || count(listener));
        upload(&cluster.client, service).with_context(|| format!("to {service}"))?;
        let (received, is_right) = counting.join().expect("no panic").with_context(|| format!("from {service}"))?;
        ensure!((received, is_right) == (LENGTH, true), "{received} bytes came to {service}, right: {is_right}");
        ensure!(watching.join().expect("no panic")?.is_some(), "no long packet left for {real}");
        let listed = director.json(&format!("-L -t {service} --stats --json"))?;
        let counted = listed[0]["statistics"]["in_bytes"].as_u64().context("no statistics")?;
        ensure!(counted as usize >= LENGTH, "only {counted} bytes were counted for {service}");
        director.lvsadm(&format!("-D -t {service}"))?;
    }
    Ok(())
}

const BOTH: [(IpAddr, bool); 2] = [(VIP, true), (VIP6, false)];

#[test]
fn long_packets_pass_nat_whole() {
    uploads(Site::BehindDirector, "-m", "", true, &BOTH).unwrap();
}

#[test]
fn long_packets_pass_fullnat_whole() {
    // Longer than the length field of the other family's header holds, and without one of its own.
    uploads(Site::BehindDirector, "--fullnat", "", true, &[BOTH[0], BOTH[1], (VIP6, true)]).unwrap();
}

#[test]
fn long_packets_are_routed_whole() {
    uploads(Site::BesideDirector, "-g", "--dr", false, &BOTH).unwrap();
}

#[test]
fn long_packets_pass_tunnels_whole() {
    let families = [BOTH[0], BOTH[1], (VIP6, true), (VIP, false)];
    for (kind, more) in [("ipip", ""), ("gre", ""), ("gue", "--tun-port 6080"), ("vxlan", "--tun-port 4789")] {
        let opened = format!("--tun-type {kind} {more}");
        uploads(Site::BesideDirector, &format!("-i {opened}"), &format!("--tun {opened}"), false, &families)
            .with_context(|| kind.to_owned())
            .unwrap();
    }
}
