//! Connections that a client keeps, and asks something over again and again.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::libc;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::namespace::Namespace;
use crate::uninterrupted;

/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a client's end of a connection is to be like.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin {
    /// Its address; without, the route's.
    pub address: Option<IpAddr>,
    /// Its port, 0 for any.
    pub port: u16,
    /// The firewall mark of its packets (`SO_MARK`), 0 for none.
    pub mark: u32,
}

impl Origin {
    /// A socket toward `to`.
    fn socket(self, to: SocketAddr, kind: SockType) -> Result<OwnedFd> {
        let (family, any): (_, IpAddr) = match to {
            SocketAddr::V4(_) => (AddressFamily::Inet, Ipv4Addr::UNSPECIFIED.into()),
            SocketAddr::V6(_) => (AddressFamily::Inet6, Ipv6Addr::UNSPECIFIED.into()),
        };
        let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
        let patience = TimeVal::seconds(PATIENCE.as_secs() as i64);
        setsockopt(&socket, sockopt::SendTimeout, &patience)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &patience)?;
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        if self.mark != 0 {
            setsockopt(&socket, sockopt::Mark, &self.mark)?;
        }
        let from = SocketAddr::new(self.address.unwrap_or(any), self.port);
        bind(socket.as_raw_fd(), &SockaddrStorage::from(from)).with_context(|| format!("cannot bind to {from}"))?;
        connect(socket.as_raw_fd(), &SockaddrStorage::from(to)).with_context(|| format!("cannot connect to {to}"))?;
        Ok(socket)
    }
}

/// A TCP connection to an HTTP server.
pub struct Session(BufReader<TcpStream>);

impl Session {
    /// Connects, from a namespace.
    pub fn open(client: &Namespace, to: SocketAddr, origin: Origin) -> Result<Self> {
        client.enter(|| Self::here(to, origin))
    }

    /// Connects, from this thread's namespace.
    pub fn here(to: SocketAddr, origin: Origin) -> Result<Self> {
        let stream = TcpStream::from(origin.socket(to, SockType::Stream)?);
        stream.set_nodelay(true)?;
        Ok(Session(BufReader::new(stream)))
    }

    /// Its port at the client.
    pub fn port(&self) -> Result<u16> {
        Ok(self.0.get_ref().local_addr()?.port())
    }

    /// The name of the server that answers a request.
    pub fn ask(&mut self) -> Result<String> {
        self.request("GET / HTTP/1.1\r\nHost: vip\r\n\r\n")
    }

    /// The same, and the server closes its end behind the answer.
    pub fn ask_once(&mut self) -> Result<String> {
        self.request("GET / HTTP/1.1\r\nHost: vip\r\nConnection: close\r\n\r\n")
    }

    fn request(&mut self, request: &str) -> Result<String> {
        self.0.get_mut().write_all(request.as_bytes()).context("cannot ask")?;
        let mut lines = Vec::new();
        // Status, server, length, an empty line, and the one line of the body.
        while lines.len() < 5 {
            let mut line = String::new();
            ensure!(self.0.read_line(&mut line).context("no answer")? != 0, "the connection ended without an answer");
            lines.push(line);
        }
        let server = lines[4].split(' ').next().unwrap_or_default();
        ensure!(lines[0].contains(" 200 ") && server.starts_with("rs"), "a wrong answer: {lines:?}");
        Ok(server.to_owned())
    }

    /// Asks, and whether nothing at all comes of it for a while.
    pub fn is_ignored(&mut self) -> Result<bool> {
        self.0.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: vip\r\n\r\n").context("cannot ask")?;
        self.0.get_ref().set_read_timeout(Some(Duration::from_millis(400)))?;
        let first = uninterrupted(|| self.0.fill_buf().map(<[u8]>::len));
        self.0.get_ref().set_read_timeout(Some(PATIENCE))?;
        match first {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
            other => other.map(|_| false).context("the connection is over"),
        }
    }

    /// The name of the server that answers what was asked before.
    pub fn hear(&mut self) -> Result<String> {
        self.request("")
    }

    /// Whether it is ended by a RST.
    pub fn is_reset(&mut self) -> bool {
        uninterrupted(|| self.0.fill_buf().map(<[u8]>::len))
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
    }

    /// Ends it by a RST.
    pub fn reset(self) -> Result<()> {
        setsockopt(self.0.get_ref(), sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
        Ok(())
    }
}

/// A UDP socket that is connected to a server which answers each datagram.
pub struct Datagrams(UdpSocket);

impl Datagrams {
    /// Connects, from a namespace.
    pub fn open(client: &Namespace, to: SocketAddr, origin: Origin) -> Result<Self> {
        client.enter(|| Ok(Datagrams(UdpSocket::from(origin.socket(to, SockType::Datagram)?))))
    }

    /// Sends all further datagrams with options of IPv4.
    pub fn set_options(&self, options: &[u8]) -> Result<()> {
        let (start, length) = (options.as_ptr().cast(), options.len() as u32);
        // SAFETY: a plain system call with a slice that outlives it.
        let done = unsafe { libc::setsockopt(self.0.as_raw_fd(), libc::IPPROTO_IP, libc::IP_OPTIONS, start, length) };
        nix::errno::Errno::result(done).context("cannot set options").map(drop)
    }

    /// The name of the server that answers a datagram.
    pub fn ask(&self) -> Result<String> {
        self.ask_with(1)
    }

    /// The same with a datagram of some length.
    pub fn ask_with(&self, length: usize) -> Result<String> {
        self.0.send(&vec![b'x'; length]).context("cannot ask")?;
        let mut answer = [0; 256];
        let length = uninterrupted(|| self.0.recv(&mut answer)).context("no answer")?;
        let answer = String::from_utf8_lossy(&answer[..length]);
        Ok(answer.split(' ').next().unwrap_or_default().to_owned())
    }

    /// Asks, and whether nothing at all comes of it for a while.
    pub fn is_ignored(&self) -> Result<bool> {
        self.is_ignored_with(1)
    }

    /// The same with a datagram of some length.
    pub fn is_ignored_with(&self, length: usize) -> Result<bool> {
        self.0.send(&vec![b'x'; length]).context("cannot ask")?;
        self.0.set_read_timeout(Some(Duration::from_millis(400)))?;
        let received = uninterrupted(|| self.0.recv(&mut [0; 256]));
        self.0.set_read_timeout(Some(PATIENCE))?;
        match received {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
            other => other.map(|_| false).context("an error came"),
        }
    }
}
