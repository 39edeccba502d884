//! Datagrams whose failures are told: what routers and hosts report of them.

use std::io::{ErrorKind, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::{Ipv4RecvErr, Ipv4Ttl, Ipv6RecvErr, Ipv6Ttl};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt};

use super::client::Client;
use crate::{text, uninterrupted};

/// What became of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was answered.
    Answered(Vec<u8>),
    /// An ICMP error came, which quotes it as it was sent: the kernel found the socket by that.
    Reported {
        /// What the error means to a program.
        error: Errno,
        /// Who reported it.
        by: IpAddr,
        /// The MTU, if it was too long.
        mtu: u32,
    },
}

impl Client<'_> {
    /// Sends a datagram of `length` bytes with this TTL or hop limit from a new socket, and waits for what becomes of it.
    pub fn probe(self, to: SocketAddr, ttl: i32, length: usize) -> Result<Fate> {
        self.0.enter(|| {
            let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
            if to.is_ipv4() {
                setsockopt(&socket, Ipv4RecvErr, &true)?;
                setsockopt(&socket, Ipv4Ttl, &ttl)?;
            } else {
                setsockopt(&socket, Ipv6RecvErr, &true)?;
                setsockopt(&socket, Ipv6Ttl, &ttl)?;
            }
            socket.connect(to)?;
            socket.send(&text(length))?;
            let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
            ensure!(poll(&mut ready, PollTimeout::from(5000u16))? > 0, "nothing became of a datagram to {to}");
            if let Some(report) = report(&socket)? {
                return Ok(report);
            }
            let mut answer = vec![0; 65536];
            socket.set_read_timeout(Some(Duration::from_secs(1)))?;
            let received = match uninterrupted(|| socket.recv(&mut answer)) {
                // The error is on the socket before it is in its queue.
                Err(error) if error.kind() != ErrorKind::WouldBlock => {
                    return report(&socket)?.with_context(|| format!("an error without a report: {error}"));
                }
                received => received?,
            };
            answer.truncate(received);
            Ok(Fate::Answered(answer))
        })
    }
}

/// The first report in a socket's queue.
fn report(socket: &UdpSocket) -> Result<Option<Fate>> {
    let mut quoted = [0; 256];
    let mut parts = [IoSliceMut::new(&mut quoted)];
    let mut space = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6);
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let message = match recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags) {
        Err(Errno::EAGAIN) => return Ok(None),
        message => message?,
    };
    for control in message.cmsgs()? {
        let (error, by) = match control {
            ControlMessageOwned::Ipv4RecvErr(error, Some(by)) => {
                (error, IpAddr::from(by.sin_addr.s_addr.to_ne_bytes()))
            }
            ControlMessageOwned::Ipv6RecvErr(error, Some(by)) => (error, IpAddr::from(by.sin6_addr.s6_addr)),
            _ => continue,
        };
        let errno = Errno::from_raw(error.ee_errno as i32);
        let mtu = if errno == Errno::EMSGSIZE { error.ee_info } else { 0 };
        return Ok(Some(Fate::Reported { error: errno, by, mtu }));
    }
    Ok(None)
}
