//! Thousands of TCP connections over which one thread sends back what it gets.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, unshare};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::descriptors::raise_file_limit;

/// Bytes that are read at a time.
const BUFFER: usize = 65_536;
/// Events that are asked for at a time.
const EVENTS: usize = 256;
/// The listener among the events; connections have their descriptors' numbers.
const LISTENER: u64 = u64::MAX;

/// A listener and its connections.
pub struct Echo {
    epoll: Epoll,
    listener: TcpListener,
    connections: HashMap<u64, Connection>,
    buffer: Vec<u8>,
}

/// A connection. It is read from only when all has been sent back.
struct Connection {
    stream: TcpStream,
    unsent: Vec<u8>,
}

impl Echo {
    /// Of a listener.
    pub fn new(listener: TcpListener) -> anyhow::Result<Self> {
        raise_file_limit()?;
        listener.set_nonblocking(true)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        Ok(Echo { epoll, listener, connections: HashMap::new(), buffer: vec![0; BUFFER] })
    }

    /// Gives this thread a table of open files of its own, with nothing in it but what this needs: each table has a limit, which both ends of
    /// ten thousand connections would exceed.
    pub fn leave_files_of_others(&self) -> io::Result<()> {
        unshare(CloneFlags::CLONE_FILES)?;
        let mut kept = [self.listener.as_raw_fd() as u32, self.epoll.0.as_raw_fd() as u32];
        kept.sort_unstable();
        for (first, last) in [(3, kept[0] - 1), (kept[0] + 1, kept[1] - 1), (kept[1] + 1, u32::MAX)] {
            if first <= last {
                // SAFETY: this thread owns what is kept; other threads have the other table.
                Errno::result(unsafe { libc::close_range(first, last, 0) })?;
            }
        }
        Ok(())
    }

    /// Waits for a moment, and does what there is to do.
    pub fn turn(&mut self) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); EVENTS];
        let count = self.epoll.wait(&mut events, EpollTimeout::from(50u8))?;
        for event in &events[..count] {
            match event.data() {
                LISTENER => self.accept()?,
                number => self.serve(number)?,
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        let (stream, _) = match self.listener.accept() {
            // A client that went away before is its own business.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionAborted) => return Ok(()),
            accepted => accepted?,
        };
        stream.set_nonblocking(true)?;
        let number = stream.as_raw_fd() as u64;
        self.epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, number))?;
        self.connections.insert(number, Connection { stream, unsent: Vec::new() });
        Ok(())
    }

    fn serve(&mut self, number: u64) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(&number) else { return Ok(()) };
        let waited = !connection.unsent.is_empty();
        match connection.turn(&mut self.buffer) {
            Ok(true) if waited == connection.unsent.is_empty() => {
                let wanted = if waited { EpollFlags::EPOLLIN } else { EpollFlags::EPOLLOUT };
                self.epoll.modify(connection.stream.as_fd(), &mut EpollEvent::new(wanted, number))?;
            }
            Ok(true) => {}
            Ok(false) | Err(_) => drop(self.connections.remove(&number)),
        }
        Ok(())
    }
}

impl Connection {
    /// Reads unless something is unsent, and sends: whether there may be more.
    fn turn(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        if self.unsent.is_empty() {
            match self.stream.read(buffer) {
                Ok(0) => return Ok(false),
                Ok(length) => self.unsent.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        match self.stream.write(&self.unsent) {
            Ok(length) => drop(self.unsent.drain(..length)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(true)
    }
}
