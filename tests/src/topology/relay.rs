//! A director made by hand: it forwards TCP connections by FullNAT between two packet sockets, and does to a client's packets
//! what a test wants, such as inserting options.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;
use etherparse::{NetSlice, SlicedPacket, TcpHeader, TransportSlice};

use super::namespace::Namespace;
use super::packet::PacketSocket;
use crate::fixtures::frame::{self, TCP};

/// The first local port that is used for connections.
const FIRST_PORT: u16 = 20_000;

/// A packet from a client.
#[derive(Clone, Copy, Debug)]
pub struct FromClient {
    /// Whose it is.
    pub client: SocketAddr,
    /// Which one of its connection it is behind the SYN, from 0, which completes the handshake; none for a SYN.
    pub number: Option<usize>,
    /// Which one it is of those that bring data, from 0.
    pub data: Option<usize>,
}

/// What becomes of a packet from a client.
pub enum Handling {
    /// It is forwarded, with these options before its own (nothing for none) if there is room for them.
    Forward(Vec<u8>),
    /// It is lost.
    Lose,
}

/// Who is at one side of the relay.
#[derive(Clone, Copy)]
pub struct Side {
    /// The relay's device.
    pub device: &'static str,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// The MAC address of the host there.
    pub host: [u8; 6],
}

/// Addresses of one family: the virtual one, the relay's local one, and the real server's.
#[derive(Clone, Copy)]
pub struct Addresses {
    /// Where clients connect to.
    pub virt: IpAddr,
    /// Where connections to the real server come from.
    pub local: IpAddr,
    /// The real server.
    pub real: IpAddr,
}

/// A relay; dropped, it stops.
pub struct Relay {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// A connection's client, and how many packets behind the SYN it has sent, in all and with data.
struct Connection {
    client: SocketAddr,
    packets: usize,
    with_data: usize,
}

/// Connections by their local ports, less the first.
type Connections = Mutex<Vec<Connection>>;

impl Relay {
    /// Starts to forward between clients in front and the real server at the back. Ports stay as they are.
    pub fn start(
        namespace: &Namespace,
        (front, back): (Side, Side),
        addresses: &[Addresses],
        handle: impl Fn(&FromClient) -> Handling + Send + 'static,
    ) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let connections = Arc::new(Connections::default());
        let open = |side: Side| PacketSocket::open(namespace, side.device);
        let there = {
            let (stop, connections, addresses) = (stop.clone(), connections.clone(), addresses.to_vec());
            let (from, to) = (open(front)?, open(back)?);
            let forward = move |frame: &[u8]| request(frame, &connections, &addresses, &handle);
            thread::spawn(move || run(&stop, (&from, front), (&to, back), forward))
        };
        let back_again = {
            let (stop, addresses) = (stop.clone(), addresses.to_vec());
            let (from, to) = (open(back)?, open(front)?);
            let forward = move |frame: &[u8]| reply(frame, &connections, &addresses);
            thread::spawn(move || run(&stop, (&from, back), (&to, front), forward))
        };
        Ok(Relay { stop, threads: vec![there, back_again] })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // Its panic has been printed.
            let _ = thread.join();
        }
    }
}

/// Forwards frames in one direction.
fn run(
    stop: &AtomicBool,
    (from, near): (&PacketSocket, Side),
    (to, far): (&PacketSocket, Side),
    forward: impl Fn(&[u8]) -> Option<Vec<u8>>,
) {
    let to_me = |frame: &[u8]| frame.starts_with(&near.mac);
    while !stop.load(Ordering::Relaxed) {
        let frame = from.receive(Duration::from_millis(50), to_me).expect("a packet socket that can be read");
        if let Some(packet) = frame.and_then(|frame| forward(&frame)) {
            // The host at the other end may be gone already.
            let _ = to.send(&frame::ethernet(far.host, far.mac, &packet));
        }
    }
}

/// A client's packet as the real server gets it.
fn request(
    frame: &[u8],
    connections: &Connections,
    addresses: &[Addresses],
    handle: &impl Fn(&FromClient) -> Handling,
) -> Option<Vec<u8>> {
    let (client, to, mut header, data) = parse(frame)?;
    let addresses = addresses.iter().find(|addresses| addresses.virt == to.ip())?;
    let mut connections = connections.lock().expect("not poisoned");
    let at = connections.iter().position(|connection| connection.client == client).unwrap_or_else(|| {
        connections.push(Connection { client, packets: 0, with_data: 0 });
        connections.len() - 1
    });
    let connection = &mut connections[at];
    let number = (!header.syn).then_some(connection.packets);
    let packet = FromClient { client, number, data: (!data.is_empty()).then_some(connection.with_data) };
    connection.packets += usize::from(!header.syn);
    connection.with_data += usize::from(!data.is_empty());
    let Handling::Forward(options) = handle(&packet) else { return None };
    let mut options = [&options[..], header.options.as_slice()].concat();
    options.resize(options.len().next_multiple_of(4), 1);
    if options.len() <= 40 {
        header.set_options_raw(&options).ok()?;
    }
    let local = SocketAddr::new(addresses.local, FIRST_PORT + at as u16);
    Some(packet_of(header, local, SocketAddr::new(addresses.real, to.port()), data))
}

/// A real server's packet as the client gets it.
fn reply(frame: &[u8], connections: &Connections, addresses: &[Addresses]) -> Option<Vec<u8>> {
    let (real, local, header, data) = parse(frame)?;
    let addresses = addresses.iter().find(|addresses| addresses.local == local.ip())?;
    let client = connections.lock().expect("not poisoned").get(usize::from(local.port() - FIRST_PORT))?.client;
    Some(packet_of(header, SocketAddr::new(addresses.virt, real.port()), client, data))
}

/// A TCP packet: its ends, its header, and its data.
fn parse(frame: &[u8]) -> Option<(SocketAddr, SocketAddr, TcpHeader, &[u8])> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let (from, to): (IpAddr, IpAddr) = match packet.net? {
        NetSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        NetSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        _ => return None,
    };
    let TransportSlice::Tcp(tcp) = packet.transport? else { return None };
    let ends = (SocketAddr::new(from, tcp.source_port()), SocketAddr::new(to, tcp.destination_port()));
    Some((ends.0, ends.1, tcp.to_header(), tcp.payload()))
}

/// The IP packet with this TCP header for these ends.
fn packet_of(mut header: TcpHeader, from: SocketAddr, to: SocketAddr, data: &[u8]) -> Vec<u8> {
    (header.source_port, header.destination_port) = (from.port(), to.port());
    frame::ip(from.ip(), to.ip(), 0, 64, TCP, &frame::segment(&header, from.ip(), to.ip(), data))
}
