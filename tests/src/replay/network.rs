//! A director between two ports whose far ends are ours: every frame is made and caught by hand.
//!
//! ```text
//!   tester: client 02:00:00:00:01:64 ── cl0 02:00:00:00:01:01, 10.1.0.1/24, 2001:db8:1::1/64 director
//!           server                   ── rs0 02:00:00:00:02:01, 10.2.0.1/24, 2001:db8:2::1/64
//! ```
//!
//! The virtual addresses 192.0.2.10 and 2001:db8:f::10 are on `lo`. The client is 10.1.0.100 or 2001:db8:1::64, and more
//! are behind it: 10.99.0.0/16 and 2001:db8:99::/48. Server N is 10.2.0.N or 2001:db8:2::N and has MAC address
//! 02:00:00:00:02:N. The tester's devices have no addresses, and the director's neighbours are entered by hand.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use aya::programs::links::LinkOrder;
use aya::programs::tc::TcAttachOptions;
use aya::programs::{SchedClassifier, TcAttachType};

use super::blank::Blank;
use super::recording::Port;
use crate::fixtures::{self, frame};
use crate::topology::{Namespace, Offloads, PacketSocket, connect, lvsadm_path};

/// MAC address of the director towards the clients.
pub const DIRECTOR_CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
/// MAC address of the director towards the servers.
pub const DIRECTOR_SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 2, 1];
/// MAC address of the clients.
pub const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 1, 0x64];

/// MAC address of a server.
pub const fn server_mac(number: u8) -> [u8; 6] {
    [2, 0, 0, 0, 2, number]
}

/// How long to wait for what has to come. Nothing that is as it should be waits for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// What carries the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// TC alone.
    Tc,
    /// XDP in the driver, and TC for what it hands up.
    Native,
}

impl Tier {
    /// Both.
    pub const ALL: [Tier; 2] = [Tier::Tc, Tier::Native];

    /// As `lvsadm attach --mode` has it.
    pub fn name(self) -> &'static str {
        match self {
            Tier::Tc => "tc",
            Tier::Native => "native",
        }
    }
}

/// The frames that came out of each port.
#[derive(Debug, Default)]
pub struct Caught {
    /// To clients.
    pub client: Vec<Vec<u8>>,
    /// To servers.
    pub server: Vec<Vec<u8>>,
}

impl Caught {
    /// Those of a port.
    pub fn at(&self, port: Port) -> &[Vec<u8>] {
        match port {
            Port::Client => &self.client,
            Port::Server => &self.server,
        }
    }

    fn at_mut(&mut self, port: Port) -> &mut Vec<Vec<u8>> {
        match port {
            Port::Client => &mut self.client,
            Port::Server => &mut self.server,
        }
    }
}

/// The set-up.
pub struct Network {
    // Sockets close and maps are let go before the namespaces go.
    client: PacketSocket,
    server: PacketSocket,
    blank: Blank,
    director: Namespace,
    tester: Namespace,
    /// How many fences were sent.
    fences: Cell<u32>,
}

impl Network {
    /// Builds it, and loads and attaches the data plane.
    pub fn new(tier: Tier) -> Result<Self> {
        let (tester, director) = (Namespace::new("tester")?, Namespace::new("director")?);
        tester.sysctl(&["net/ipv6/conf/all/disable_ipv6=1", "net/ipv6/conf/default/disable_ipv6=1"])?;
        for (inside, outside) in [("cl0", "client"), ("rs0", "server")] {
            connect((&director, inside), (&tester, outside), Offloads::Off)?;
        }
        set_up(&director)?;
        tester.ip(&["link set client address 02:00:00:00:01:64"])?;
        director.lvsadm(&format!("attach --mode {} --conns 4096", tier.name()))?;
        let blank = Blank::of(&director.enter(fixtures::pins)?)?;
        let (client, server) = (PacketSocket::open(&tester, "client")?, PacketSocket::open(&tester, "server")?);
        Ok(Network { client, server, blank, director, tester, fences: Cell::new(0) })
    }

    /// Has another tier carry the packets from now on.
    pub fn carry_by(&self, tier: Tier) -> Result<()> {
        self.director.lvsadm(&format!("attach --mode {}", tier.name())).map(drop)
    }

    /// What `lvsadm` prints; to fail or to complain is an error.
    pub fn lvsadm(&self, arguments: &str) -> Result<String> {
        // Without `ip netns exec`, whose mount namespaces take longer than lvsadm does.
        let run = || Ok(Command::new(lvsadm_path()).args(arguments.split(' ')).stdin(Stdio::null()).output()?);
        let output = self.director.enter(run)?;
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success() && complaint.is_empty(), "lvsadm {arguments}: {}: {complaint}", output.status);
        String::from_utf8(output.stdout).context("not text")
    }

    /// The director, for servers that run on it.
    pub fn director(&self) -> &Namespace {
        &self.director
    }

    /// Sets the MTU of the cable at a port.
    pub fn set_mtu(&self, port: Port, mtu: u32) -> Result<()> {
        let (inside, outside) = match port {
            Port::Client => ("cl0", "client"),
            Port::Server => ("rs0", "server"),
        };
        self.director.ip(&[format!("link set {inside} mtu {mtu}")])?;
        self.tester.ip(&[format!("link set {outside} mtu {mtu}")])
    }

    /// Has packets from clients to 192.0.2.0/24, all of which is local now, carry mark 7 for as long as the returned
    /// object lives.
    pub fn mark(&self) -> Result<Ebpf> {
        self.director.ip(&["route add local 192.0.2.0/24 dev lo"])?;
        self.director.enter(|| {
            let mut ebpf = crate::bench_object()?;
            let program: &mut SchedClassifier = ebpf.program_mut("mark").context("no program")?.try_into()?;
            program.load()?;
            let first = TcAttachOptions::TcxOrder(LinkOrder::first());
            program.attach_with_options("cl0", TcAttachType::Ingress, first)?;
            Ok(ebpf)
        })
    }

    /// Makes the director forget everything: rules, connections, counters, settings, and what the kernel learned of routes.
    pub fn forget(&self) -> Result<()> {
        self.blank.restore()?;
        // There need not be such a route.
        let _ = self.director.ip(&["route del local 192.0.2.0/24 dev lo"]);
        self.director.forget_routes()?;
        self.late().map(drop)
    }

    /// Frames that came out though nobody waited for any more.
    pub fn late(&self) -> Result<usize> {
        let mut count = 0;
        for socket in [&self.client, &self.server] {
            while socket.receive(Duration::ZERO, is_traffic)?.is_some() {
                count += 1;
            }
        }
        Ok(count)
    }

    /// Sends frames into a port and catches all that come out. The director takes frames in turn, so two more which it
    /// simply forwards, one to each port, tell when it is done with them; only beyond these is it waited for
    /// `expected` frames in vain.
    pub fn exchange(&self, port: Port, frames: &[Vec<u8>], expected: (usize, usize)) -> Result<Caught> {
        let socket = match port {
            Port::Client => &self.client,
            Port::Server => &self.server,
        };
        frames.iter().try_for_each(|frame| socket.send(frame))?;
        let number = self.fences.get() + 1;
        self.fences.set(number);
        for out in [Port::Client, Port::Server] {
            socket.send(&fence(port, out, number))?;
        }
        let mut caught = Caught::default();
        for (out, socket, expected) in
            [(Port::Client, &self.client, expected.0), (Port::Server, &self.server, expected.1)]
        {
            let caught = caught.at_mut(out);
            loop {
                let frame = socket.receive(PATIENCE, |frame| is_traffic(frame) || is_fence(frame, number))?;
                let frame = frame.context("the director forwards nothing any more")?;
                if is_fence(&frame, number) {
                    break;
                }
                caught.push(frame);
            }
            // A program's answer may take longer.
            while caught.len() < expected {
                let Some(frame) = socket.receive(PATIENCE, is_traffic)? else { break };
                caught.push(frame);
            }
        }
        Ok(caught)
    }
}

/// Addresses, routes and neighbours of the director.
fn set_up(director: &Namespace) -> Result<()> {
    let mut settings = vec!["net/ipv4/ip_forward=1".to_owned(), "net/ipv6/conf/all/forwarding=1".to_owned()];
    // Errors of the director's own are not rationed.
    let unlimited = [
        "ipv4/icmp_ratelimit=0",
        "ipv6/icmp/ratelimit=0",
        "ipv4/icmp_msgs_per_sec=100000",
        "ipv4/icmp_msgs_burst=100000",
    ];
    settings.extend(unlimited.map(|setting| format!("net/{setting}")));
    for device in ["all", "default", "cl0", "rs0"] {
        settings.push(format!("net/ipv4/conf/{device}/rp_filter=0"));
        settings.push(format!("net/ipv4/conf/{device}/send_redirects=0"));
        settings.push(format!("net/ipv6/conf/{device}/accept_ra=0"));
    }
    director.sysctl(&settings.iter().map(String::as_str).collect::<Vec<_>>())?;
    let mut commands: Vec<String> = [
        "link set cl0 address 02:00:00:00:01:01",
        "link set rs0 address 02:00:00:00:02:01",
        "addr add 10.1.0.1/24 dev cl0",
        "addr add 10.2.0.1/24 dev rs0",
        "addr add 2001:db8:1::1/64 dev cl0 nodad",
        "addr add 2001:db8:2::1/64 dev rs0 nodad",
        "addr add 192.0.2.10/32 dev lo",
        "addr add 2001:db8:f::10/128 dev lo nodad",
        "route add 10.99.0.0/16 via 10.1.0.100",
        "route add 2001:db8:99::/48 via 2001:db8:1::100",
    ]
    .map(str::to_owned)
    .into();
    let mut neighbour = |address: String, mac: [u8; 6], device| {
        let mac = fixtures::colons(mac);
        commands.push(format!("neigh replace {address} lladdr {mac} dev {device} nud permanent"));
    };
    for address in ["10.1.0.100", "2001:db8:1::64", "2001:db8:1::100"] {
        neighbour(address.to_owned(), CLIENT_MAC, "cl0");
    }
    for number in 11..=16 {
        neighbour(format!("10.2.0.{number}"), server_mac(number), "rs0");
        neighbour(format!("2001:db8:2::{number}"), server_mac(number), "rs0");
    }
    director.ip(&commands)
}

/// Whether a frame is IP, and not what neighbours and multicast listeners tell each other.
fn is_traffic(frame: &[u8]) -> bool {
    match frame {
        [_, _, _, _, _, _, _, _, _, _, _, _, 0x08, 0x00, ..] => !has_fence(frame),
        [_, _, _, _, _, _, _, _, _, _, _, _, 0x86, 0xdd, packet @ ..] => match packet.get(6) {
            Some(0) => false,
            Some(&frame::ICMPV6) => !packet.get(40).is_some_and(|kind| (130..=143).contains(kind)),
            _ => true,
        },
        _ => false,
    }
}

/// What a fence carries, before its number.
const FENCE: &[u8] = b"nothing comes after this: ";

/// A frame into `port` that the director forwards out of `out`.
fn fence(port: Port, out: Port, number: u32) -> Vec<u8> {
    let host = |port, other| match (port, other) {
        (Port::Client, false) => [10, 1, 0, 100],
        (Port::Client, true) => [10, 99, 255, 255],
        (Port::Server, false) => [10, 2, 0, 16],
        (Port::Server, true) => [10, 2, 0, 15],
    };
    let address = |[a, b, c, d]: [u8; 4]| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), 9);
    let (from, to) = (address(host(port, false)), address(host(out, port == out)));
    let datagram = frame::udp(from, to, &[FENCE, &number.to_be_bytes()].concat());
    let packet = frame::ip(from.ip(), to.ip(), 0, 64, frame::UDP, &datagram);
    let (director, sender) = match port {
        Port::Client => (DIRECTOR_CLIENT_MAC, CLIENT_MAC),
        Port::Server => (DIRECTOR_SERVER_MAC, server_mac(16)),
    };
    frame::ethernet(director, sender, &packet)
}

/// Whether a frame is a fence.
fn has_fence(frame: &[u8]) -> bool {
    frame.get(42..).is_some_and(|payload| payload.starts_with(FENCE))
}

/// Whether a frame is the fence of this number.
fn is_fence(frame: &[u8], number: u32) -> bool {
    has_fence(frame) && frame[42 + FENCE.len()..].starts_with(&number.to_be_bytes())
}
