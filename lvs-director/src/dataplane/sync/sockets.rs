//! The sockets of a group, or of peers: on one device, and for nobody else.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{RcvBuf, RcvBufForce};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};

use crate::rules::Daemon;

/// An address and a port of it, on the device with index `device`.
fn address(daemon: &Daemon, to: IpAddr, device: u32, number: u16) -> SocketAddr {
    let port = daemon.port.wrapping_add(number);
    match to {
        IpAddr::V4(to) => (to, port).into(),
        IpAddr::V6(to) => SocketAddrV6::new(to, port, 0, device).into(),
    }
}

/// A datagram socket that uses the device only.
fn socket(daemon: &Daemon) -> io::Result<Socket> {
    let domain = if daemon.group.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind_device(Some(daemon.interface.as_bytes()))?;
    Ok(socket)
}

/// The number of the port by which backups ask for the whole table. The members of a group hear all that comes to it. A host that
/// is both master and backup of a peer would not: a datagram goes to one of its sockets.
pub fn questions(daemon: &Daemon, ports: u16) -> u16 {
    if daemon.has_peer() { ports } else { 0 }
}

/// Sends to a port of the group, or of each peer. They need not be reachable yet: the device may have no address.
pub struct Sender {
    socket: UdpSocket,
    to: Vec<SocketAddr>,
}

impl Sender {
    /// Sends a message to all. The error is that of the last one that it could not be sent to.
    pub fn send(&self, message: &[u8]) -> io::Result<()> {
        let mut result = Ok(());
        for to in &self.to {
            if let Err(error) = self.socket.send_to(message, to) {
                result = Err(error);
            }
        }
        result
    }
}

/// A socket that sends to a port: what the host itself listens for does not hear it.
pub fn sender(daemon: &Daemon, device: u32, number: u16, buffer: usize) -> io::Result<Sender> {
    let socket = socket(daemon)?;
    match daemon.group {
        IpAddr::V4(_) if daemon.has_peer() => socket.set_ttl_v4(daemon.ttl.into())?,
        IpAddr::V6(_) if daemon.has_peer() => socket.set_unicast_hops_v6(daemon.ttl.into())?,
        IpAddr::V4(_) => {
            socket.set_multicast_loop_v4(false)?;
            socket.set_multicast_ttl_v4(daemon.ttl.into())?;
        }
        IpAddr::V6(_) => {
            socket.set_multicast_if_v6(device)?;
            socket.set_multicast_loop_v6(false)?;
            socket.set_multicast_hops_v6(daemon.ttl.into())?;
        }
    }
    if buffer != 0 {
        socket.set_send_buffer_size(buffer)?;
    }
    let all = std::iter::once(&daemon.group).chain(&daemon.further);
    Ok(Sender { socket: socket.into(), to: all.map(|to| address(daemon, *to, device, number)).collect() })
}

/// Receives what is sent to a port.
pub struct Receiver {
    socket: UdpSocket,
    /// Whose messages alone count; empty if everybody's do who sends to the group.
    peers: Vec<IpAddr>,
}

/// What was received.
pub enum Received<'b> {
    /// A datagram. One that filled the buffer may have been longer.
    Datagram(&'b [u8]),
    /// One of another host than the peers.
    Foreign,
}

impl Receiver {
    /// Receives a datagram. An error says that there is none, or that the device is down.
    pub fn receive<'b>(&self, buffer: &'b mut [u8]) -> io::Result<Received<'b>> {
        let (length, from) = self.socket.recv_from(buffer)?;
        if !self.peers.is_empty() && !self.peers.contains(&from.ip()) {
            return Ok(Received::Foreign);
        }
        Ok(Received::Datagram(buffer.get(..length).unwrap_or_default()))
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A socket that hears a port of the group, or the peers on a port of this host.
pub fn receiver(daemon: &Daemon, device: u32, number: u16, buffer: usize) -> io::Result<Receiver> {
    let socket = socket(daemon)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if buffer != 0 {
        // Beyond the host's limit, as the kernel's own daemon.
        setsockopt(&socket, RcvBufForce, &buffer).or_else(|_| setsockopt(&socket, RcvBuf, &buffer))?;
    }
    if daemon.has_peer() {
        if daemon.group.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        let any = if daemon.group.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        socket.bind(&address(daemon, any, 0, number).into())?;
        return Ok(Receiver { socket: socket.into(), peers: daemon.peers() });
    }
    // Of the address it is bound to are only the group's packets, and of those only the ones it has joined for.
    socket.bind(&address(daemon, daemon.group, device, number).into())?;
    match daemon.group {
        IpAddr::V4(group) => {
            socket.set_multicast_all_v4(false)?;
            join4(&socket, group, device)?;
        }
        IpAddr::V6(group) => {
            socket.set_only_v6(true).or_else(ignore_bound)?;
            socket.set_multicast_all_v6(false)?;
            join6(&socket, group, device)?;
        }
    }
    Ok(Receiver { socket: socket.into(), peers: Vec::new() })
}

fn join4(socket: &Socket, group: Ipv4Addr, device: u32) -> io::Result<()> {
    socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(device))
}

fn join6(socket: &Socket, group: Ipv6Addr, device: u32) -> io::Result<()> {
    socket.join_multicast_v6(&group, device)
}

/// A socket that is bound to an address of IPv6 takes no other family, whatever it is told.
fn ignore_bound(error: io::Error) -> io::Result<()> {
    if error.raw_os_error() == Some(libc::EINVAL) { Ok(()) } else { Err(error) }
}
