//! The sockets of a group: on one device, and for no other group.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{RcvBuf, RcvBufForce};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, Socket, Type};

use crate::rules::Daemon;

/// The group's address for a port of it, which is on the device with index `device`.
fn address(daemon: &Daemon, device: u32, number: u16) -> SocketAddr {
    let port = daemon.port.wrapping_add(number);
    match daemon.group {
        IpAddr::V4(group) => (group, port).into(),
        IpAddr::V6(group) => SocketAddrV6::new(group, port, 0, device).into(),
    }
}

/// A datagram socket that uses the device only.
fn socket(daemon: &Daemon) -> io::Result<Socket> {
    let domain = if daemon.group.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind_device(Some(daemon.interface.as_bytes()))?;
    Ok(socket)
}

/// Sends to a port of the group. It need not be reachable yet: the device may have no address.
pub struct Sender {
    socket: Socket,
    to: SockAddr,
}

impl Sender {
    /// Sends a message.
    pub fn send(&self, message: &[u8]) -> io::Result<usize> {
        self.socket.send_to(message, &self.to)
    }
}

/// A socket that sends to a port of the group: what the host itself listens for does not hear it.
pub fn sender(daemon: &Daemon, device: u32, number: u16, buffer: usize) -> io::Result<Sender> {
    let socket = socket(daemon)?;
    match daemon.group {
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
    Ok(Sender { socket, to: address(daemon, device, number).into() })
}

/// A socket that hears a port of the group.
pub fn receiver(daemon: &Daemon, device: u32, number: u16, buffer: usize) -> io::Result<Socket> {
    let socket = socket(daemon)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if buffer != 0 {
        // Beyond the host's limit, as the kernel's own daemon.
        setsockopt(&socket, RcvBufForce, &buffer).or_else(|_| setsockopt(&socket, RcvBuf, &buffer))?;
    }
    // Of the address it is bound to are only the group's packets, and of those only the ones it has joined for.
    socket.bind(&address(daemon, device, number).into())?;
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
    Ok(socket)
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
