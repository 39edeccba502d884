//! A server that tells its clients who it takes them for. The tests run it in a control group of its own.
//!
//! `peers LISTENER…`, each an address and port, behind `mptcp:` for Multipath TCP. Each client is greeted with the address that
//! `accept()` gave, and each line it sends is answered with what `getpeername()` says then.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::thread;

use anyhow::{Context, Result};
use nix::libc;
use nix::sys::socket::{Backlog, SockaddrStorage, bind, listen};

fn main() -> Result<()> {
    let mut listeners = Vec::new();
    for text in std::env::args().skip(1) {
        listeners.push(listener(&text).with_context(|| format!("cannot listen on {text}"))?);
    }
    let threads: Vec<_> = listeners.into_iter().map(|listener| thread::spawn(move || serve(&listener))).collect();
    threads.into_iter().try_for_each(|thread| thread.join().expect("no panic").map_err(Into::into))
}

fn listener(text: &str) -> Result<TcpListener> {
    let (protocol, address) = match text.strip_prefix("mptcp:") {
        Some(address) => (libc::IPPROTO_MPTCP, address),
        None => (libc::IPPROTO_TCP, text),
    };
    let address: SocketAddr = address.parse()?;
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: a plain system call; what it returns is checked before it is owned.
    let raw = nix::errno::Errno::result(unsafe { libc::socket(family, libc::SOCK_STREAM, protocol) })?;
    // SAFETY: the descriptor was just made and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&socket, Backlog::MAXCONN)?;
    Ok(socket.into())
}

fn serve(listener: &TcpListener) -> io::Result<()> {
    loop {
        let (stream, accepted) = listener.accept()?;
        // A client that goes away is its own business.
        thread::spawn(move || answer(stream, accepted));
    }
}

fn answer(mut stream: TcpStream, accepted: SocketAddr) -> io::Result<()> {
    writeln!(stream, "{accepted}")?;
    let mut input = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while input.read_line(&mut line)? != 0 {
        writeln!(stream, "{}", stream.peer_addr()?)?;
        line.clear();
    }
    Ok(())
}
