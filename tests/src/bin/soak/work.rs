//! What goes on at a stand, a turn after another.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::balanced::{Balanced, SERVERS, Tier};
use tests::fixtures::frame;
use tests::topology::{Client, Offloads, PacketSocket, Transfers, VIP, VIP6};

/// Streams that begin and end again and again.
const SHORT: usize = 10;
/// The port at which real servers send back what they get.
pub const ECHO: u16 = 7;
/// How often something was done.
#[derive(Default)]
pub struct Done {
    /// Short streams that ended whole.
    pub streams: AtomicU64,
    /// Requests that were answered.
    pub requests: AtomicU64,
    /// Packets of floods.
    pub floods: AtomicU64,
    /// Commands that changed rules.
    pub edits: AtomicU64,
    /// Times that other programs took over the packets.
    pub tiers: AtomicU64,
    /// Devices that came and went.
    pub devices: AtomicU64,
}

/// A turn of some work.
pub type Work = fn(&Balanced, usize, &Done) -> Result<()>;

/// What carries the packets, in turns. The devices do nothing for their hosts, or native XDP would see unfinished checksums.
pub const TIERS: [Tier; 3] = [("native", Offloads::Off), ("generic", Offloads::Off), ("tc", Offloads::Off)];

/// Schedulers that services have in turn. Without the flag, as in IPVS, a client that the hash leads to a server of weight 0 is refused.
const SCHEDULERS: [&str; 8] = ["rr", "wlc", "mh -b mh-fallback", "sh -b sh-fallback", "lblcr", "nq", "wrr", "twos"];

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// The addresses of streams.
pub fn echo() -> [SocketAddr; 2] {
    [VIP, VIP6].map(|vip| SocketAddr::new(vip, ECHO))
}

/// Short streams.
pub fn streams(stand: &Balanced, _: usize, done: &Done) -> Result<()> {
    let transfers = Transfers::begin(&stand.cluster.client, &echo(), SHORT).context("short streams")?;
    thread::sleep(Duration::from_secs(3));
    let outcome = transfers.end()?;
    ensure!(outcome.lost.is_empty(), "{}", outcome.lost.join(", "));
    add(&done.streams, outcome.complete as u64);
    Ok(())
}

/// HTTP requests, in both families.
pub fn requests(stand: &Balanced, turn: usize, done: &Done) -> Result<()> {
    let service = SocketAddr::new([VIP, VIP6][turn % 2], 80);
    let answered = Client(&stand.cluster.client).load(service, 1, Duration::from_secs(1));
    add(&done.requests, answered.with_context(|| format!("requests to {service}"))? as u64);
    thread::sleep(Duration::from_secs(1));
    Ok(())
}

/// Requests that nobody goes on with, from addresses that nobody has.
pub fn flood(stand: &Balanced, turn: usize, done: &Done) -> Result<()> {
    const PACKETS: u32 = 300;
    let cluster = &stand.cluster;
    let director = cluster.director.run("cat /sys/class/net/eth0/address")?;
    let mut mac = [0; 6];
    for (place, byte) in mac.iter_mut().zip(director.trim().split(':')) {
        *place = u8::from_str_radix(byte, 16)?;
    }
    let wire = PacketSocket::open(&cluster.client, "eth0")?;
    for number in 0..PACKETS {
        let number = turn as u32 * PACKETS + number;
        let is_v4 = number.is_multiple_of(2);
        let from: IpAddr = match is_v4 {
            true => Ipv4Addr::from(0xc612_0000 + number % 0x1_0000).into(),
            false => Ipv6Addr::from((0x2001_0db8_00ff_u128 << 80) + u128::from(number % 0x1_0000)).into(),
        };
        let vip = if is_v4 { VIP } else { VIP6 };
        let from = SocketAddr::new(from, 1024 + (number % 50_000) as u16);
        let (protocol, payload) = match number % 4 < 2 {
            true => (frame::TCP, frame::tcp(from, SocketAddr::new(vip, 80), true, b"")),
            false => (frame::UDP, frame::udp(from, SocketAddr::new(vip, 53), b"flood")),
        };
        let packet = frame::ip(from.ip(), vip, 0, 64, protocol, &payload);
        // A device that is just being changed does not send.
        if wire.send(&frame::ethernet(mac, [2, 0, 0, 0, 9, 9], &packet)).is_ok() {
            add(&done.floods, 1);
        }
    }
    thread::sleep(Duration::from_secs(3));
    Ok(())
}

/// Edits of rules and settings. A server of each service stays open to new connections.
pub fn edit(stand: &Balanced, turn: usize, done: &Done) -> Result<()> {
    let (director, mode) = (&stand.cluster.director, stand.mode());
    let vip = [VIP, VIP6][turn % 2];
    let mut commands = Vec::new();
    for port in [80, ECHO] {
        let service = SocketAddr::new(vip, port);
        for number in 1..=SERVERS {
            let (v4, v6) = stand.cluster.server_addresses(number);
            let server = SocketAddr::new(if vip.is_ipv4() { v4 } else { v6 }, port);
            let weight = if (turn / 2) % (SERVERS + 1) == number { 0 } else { 1 + turn % 5 };
            commands.push(format!("-e -t {service} -r {server} {} -w {weight}", mode.option));
        }
        let persistence = if turn % 7 < 2 { " -p 5" } else { "" };
        commands.push(format!("-E -t {service} -s {}{persistence}", SCHEDULERS[turn / 2 % SCHEDULERS.len()]));
    }
    let other = SocketAddr::new(vip, 8000 + (turn % 50) as u16);
    commands.push(format!("-A -t {other} -s wrr"));
    commands.push(format!("-a -t {other} -r {} {}", stand.cluster.server_addresses(1).0, mode.option));
    commands.retain(|command| vip.is_ipv4() || !command.starts_with("-a "));
    commands.push(format!("-D -t {other}"));
    commands.push(format!("sysctl expire_quiescent_template={}", turn % 2));
    commands.push("-Ln --stats".to_owned());
    for command in &commands {
        director.lvsadm(command).with_context(|| command.clone())?;
    }
    add(&done.edits, commands.len() as u64 - 1);
    thread::sleep(Duration::from_secs(2));
    Ok(())
}

/// Other programs take over the packets.
pub fn change_tier(stand: &Balanced, turn: usize, done: &Done) -> Result<()> {
    thread::sleep(Duration::from_secs(7));
    let (tier, _) = TIERS[(turn + 1) % TIERS.len()];
    stand.cluster.director.lvsadm(&format!("attach --mode {tier}"))?;
    add(&done.tiers, 1);
    Ok(())
}

/// A device comes, is served, left alone and served again, and goes.
pub fn churn(stand: &Balanced, turn: usize, done: &Done) -> Result<()> {
    let director = &stand.cluster.director;
    let (name, peer) = (format!("q{turn}"), format!("r{turn}"));
    director.ip(&[format!("link add {name} type veth peer name {peer}"), format!("link set {name} up")])?;
    director.lvsadm(&format!("attach --dev {name}"))?;
    director.lvsadm(&format!("detach --dev {name}"))?;
    director.lvsadm(&format!("attach --dev {name} --mode tc"))?;
    director.ip(&[format!("link del {name}")])?;
    add(&done.devices, 1);
    thread::sleep(Duration::from_secs(5));
    Ok(())
}
