//! Playing a run of `sched.jsonl`.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use etherparse::{IpHeaders, PacketBuilder, PacketBuilderStep};

use super::network::Network;
use super::network::{CLIENT_MAC, DIRECTOR_CLIENT_MAC, DIRECTOR_SERVER_MAC, server_mac};
use super::recording::{Pick, Port, Run};
use crate::topology::lvsadm_path;

/// Connections that are opened at once, where none has to be answered: sockets hold so many frames.
const BURST: usize = 64;

/// What a packet of a connection is.
#[derive(Clone, Copy)]
enum Packet {
    Udp,
    Syn,
    SynAck,
    Ack,
    Rst,
}

/// A connection: its ends, and the server it got.
#[derive(Clone, Copy)]
struct Connection {
    client: SocketAddr,
    virt: SocketAddr,
    server: Option<u8>,
}

impl Run {
    /// The scheduler.
    pub fn scheduler(&self) -> &str {
        self.name.split([' ', '/']).next().unwrap_or_default()
    }

    /// Plays it on a director that knows nothing; another pick than the kernel's is an error.
    pub fn play(&self, network: &Network) -> Result<()> {
        self.play_on(network).with_context(|| self.name.clone())
    }

    fn play_on(&self, network: &Network) -> Result<()> {
        let is_marked = self.commands.iter().any(|command| command.contains(" -f "));
        let _mark = is_marked.then(|| network.mark()).transpose()?;
        restore(network, &self.commands)?;
        let mut first = 0;
        for (before, command) in &self.events {
            self.open(network, first..*before)?;
            first = *before;
            network.lvsadm(command)?;
        }
        self.open(network, first..self.picks.len())?;
        let listed = listed(&network.lvsadm("-Ln")?)?;
        ensure!(listed == self.r#final, "listed at the end: {listed:?}, recorded {:?}", self.r#final);
        Ok(())
    }

    /// Opens some of the connections, each as far as the variant says.
    fn open(&self, network: &Network, numbers: std::ops::Range<usize>) -> Result<()> {
        let opener = if self.variant == "udp" { Packet::Udp } else { Packet::Syn };
        let answered = self.variant.starts_with("tcp-estab");
        for start in numbers.clone().step_by(if answered { 1 } else { BURST }) {
            let burst: Vec<usize> =
                numbers.clone().skip(start - numbers.start).take(if answered { 1 } else { BURST }).collect();
            let connections: Vec<_> = burst.iter().map(|number| self.connection(*number)).collect();
            let served = connections.iter().filter(|connection| connection.server.is_some()).count();
            let frames: Vec<_> = connections.iter().map(|connection| connection.frame(opener, 0)).collect();
            let caught = network.exchange(Port::Client, &frames, (0, served))?;
            let got: Vec<_> = caught.server.iter().map(|frame| picked(frame)).collect();
            let expected: Vec<_> = connections.iter().filter_map(Connection::pick).collect();
            ensure!(got == expected, "connections {burst:?} went to {got:?}, recorded {expected:?}");
            // Who got no server is told so.
            ensure!(caught.client.len() == connections.len() - served, "{} were refused", caught.client.len());
            if answered {
                self.establish(network, burst[0], connections[0])?;
            }
        }
        Ok(())
    }

    /// What follows the first packet of a connection.
    fn establish(&self, network: &Network, number: usize, connection: Connection) -> Result<()> {
        let Some(server) = connection.server else { return Ok(()) };
        let caught = network.exchange(Port::Server, &[connection.frame(Packet::SynAck, server)], (1, 0))?;
        ensure!(caught.client.len() == 1, "the answer of connection {number} did not come");
        let reset = self.variant == "tcp-estab-close3" && number.is_multiple_of(3);
        for packet in [Packet::Ack].into_iter().chain(reset.then_some(Packet::Rst)) {
            let caught = network.exchange(Port::Client, &[connection.frame(packet, server)], (0, 1))?;
            let got: Vec<_> = caught.server.iter().map(|frame| picked(frame)).collect();
            ensure!(
                Some(&got[..]) == connection.pick().as_ref().map(std::slice::from_ref),
                "connection {number} lost its server: {got:?}"
            );
        }
        Ok(())
    }

    fn connection(&self, number: usize) -> Connection {
        let port = if self.variant == "udp" { 53 } else { 80 };
        let (client, client_port, virt, server) = match self.picks[number] {
            Pick::Marked(client, port, virt, server) => (client, port, virt, server),
            Pick::Service(client, port, server) => {
                let v4 = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10));
                let v6 = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 0x10));
                (client, port, if client.is_ipv4() { v4 } else { v6 }, server)
            }
        };
        Connection {
            client: SocketAddr::new(client, client_port),
            virt: SocketAddr::new(virt, port),
            server: server.map(|number| number + 10),
        }
    }
}

impl Connection {
    /// What a frame to its server shows: server, client.
    fn pick(&self) -> Option<(u8, SocketAddr)> {
        self.server.map(|server| (server, self.client))
    }

    /// A frame of it.
    fn frame(&self, packet: Packet, server: u8) -> Vec<u8> {
        const WINDOW: u16 = 64240;
        let is_answer = matches!(packet, Packet::SynAck);
        let real = match self.virt {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(10, 2, 0, server)),
            // Its number in decimal, written as if it were hexadecimal.
            SocketAddr::V6(_) => {
                let digits = u16::from(server / 10 * 16 + server % 10);
                IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, digits))
            }
        };
        let (from, to) =
            if is_answer { (SocketAddr::new(real, self.virt.port()), self.client) } else { (self.client, self.virt) };
        let builder = if is_answer {
            PacketBuilder::ethernet2(server_mac(server), DIRECTOR_SERVER_MAC)
        } else {
            PacketBuilder::ethernet2(CLIENT_MAC, DIRECTOR_CLIENT_MAC)
        };
        let builder = match (from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => builder.ipv4(from.octets(), to.octets(), 64),
            (IpAddr::V6(from), IpAddr::V6(to)) => builder.ipv6(from.octets(), to.octets(), 64),
            _ => unreachable!("a connection is of one family"),
        };
        let mut frame = Vec::new();
        let tcp = |builder: PacketBuilderStep<IpHeaders>, number| builder.tcp(from.port(), to.port(), number, WINDOW);
        let written = match packet {
            Packet::Udp => builder.udp(from.port(), to.port()).write(&mut frame, b"x"),
            Packet::Syn => tcp(builder, 100).syn().write(&mut frame, &[]),
            Packet::SynAck => tcp(builder, 500).syn().ack(101).write(&mut frame, &[]),
            Packet::Ack => tcp(builder, 101).ack(501).write(&mut frame, &[]),
            Packet::Rst => tcp(builder, 101).rst().write(&mut frame, &[]),
        };
        written.expect("a short frame into memory");
        frame
    }
}

/// The server that a frame goes to, by its MAC address, and the client it comes from.
fn picked(frame: &[u8]) -> (u8, SocketAddr) {
    let address = |at: usize, length: usize| -> IpAddr {
        let bytes = &frame[at..at + length];
        match <[u8; 4]>::try_from(bytes) {
            Ok(v4) => v4.into(),
            Err(_) => <[u8; 16]>::try_from(bytes).expect("an address").into(),
        }
    };
    let (client, port) = if frame[12] == 8 { (address(26, 4), 34) } else { (address(22, 16), 54) };
    (frame[5], SocketAddr::new(client, u16::from_be_bytes([frame[port], frame[port + 1]])))
}

/// Feeds rules to `lvsadm -R`.
fn restore(network: &Network, rules: &[String]) -> Result<()> {
    let lvsadm = || Ok(Command::new(lvsadm_path()).arg("-R").stdin(Stdio::piped()).spawn()?);
    let mut child = network.director().enter(lvsadm)?;
    child.stdin.take().context("no input")?.write_all(rules.join("\n").as_bytes())?;
    ensure!(child.wait()?.success(), "lvsadm -R failed");
    Ok(())
}

/// The destinations of a listing: address, weight, active and inactive connections.
fn listed(text: &str) -> Result<Vec<(String, u32, u32, u32)>> {
    let rows = text.lines().skip(3).filter_map(|line| line.trim_start().strip_prefix("-> "));
    rows.map(|row| match row.split_whitespace().collect::<Vec<_>>()[..] {
        [address, _, weight, active, inactive] => {
            Ok((address.to_owned(), weight.parse()?, active.parse()?, inactive.parse()?))
        }
        _ => anyhow::bail!("a strange line: {row}"),
    })
    .collect()
}
