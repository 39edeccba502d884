//! Servers on threads inside a namespace.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::echo::Echo;
use super::namespace::Namespace;
use crate::text;

/// A server; dropped, it stops.
pub struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// An HTTP server on every address of the namespace. It answers every request for `/bytes/N` with N bytes of
    /// [`text`], every other one with `NAME CLIENT LENGTH`: its name, the peer's address, and how many bytes of the request's body,
    /// which is such a text too, came right.
    pub fn http(namespace: &Namespace, port: u16, name: &str) -> Result<Self> {
        let listener = namespace.enter(|| Ok(TcpListener::bind(("::", port))?))?;
        listener.set_nonblocking(true)?;
        let name: Arc<str> = name.into();
        Ok(Self::start(move |stop| {
            while wait(&listener, stop) {
                if let Ok((stream, _)) = listener.accept() {
                    let name = name.clone();
                    // A client that goes away in the middle is its own business.
                    thread::spawn(move || serve(stream, &name));
                }
            }
        }))
    }

    /// A UDP server on one address that answers each datagram with `NAME CLIENT LENGTH`.
    pub fn udp(namespace: &Namespace, address: IpAddr, port: u16, name: &str) -> Result<Self> {
        let name = name.to_owned();
        let answer = move |datagram: &[u8], client| format!("{name} {client} {}\n", right(datagram)).into_bytes();
        Self::datagrams(namespace, address, port, answer)
    }

    /// A UDP server on one address that sends each datagram back behind a prefix.
    pub fn echo(namespace: &Namespace, address: IpAddr, port: u16, prefix: &str) -> Result<Self> {
        let prefix = prefix.as_bytes().to_vec();
        Self::datagrams(namespace, address, port, move |datagram, _| [&prefix, datagram].concat())
    }

    /// A UDP server; `answer` makes an answer of a datagram and its sender's address.
    fn datagrams(
        namespace: &Namespace,
        address: IpAddr,
        port: u16,
        answer: impl Fn(&[u8], IpAddr) -> Vec<u8> + Send + 'static,
    ) -> Result<Self> {
        let socket = namespace.enter(|| Ok(UdpSocket::bind((address, port))?))?;
        Ok(Self::start(move |stop| {
            let mut buffer = vec![0; 65536];
            while wait(&socket, stop) {
                if let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                    // What cannot be answered is lost, as datagrams may be.
                    let _ = socket.send_to(&answer(&buffer[..length], peer.ip()), peer);
                }
            }
        }))
    }

    /// A TCP server on every address of the namespace that sends back what it gets, over each connection.
    pub fn stream_echo(namespace: &Namespace, port: u16) -> Result<Self> {
        let listener = namespace.enter(|| Ok(TcpListener::bind(("::", port))?))?;
        let mut echo = Echo::new(listener)?;
        Ok(Self::start(move |stop| {
            echo.leave_files_of_others().expect("files of its own");
            while !stop.load(Ordering::Relaxed) {
                // Without it, connections fail, which is what tests look at.
                let _ = echo.turn();
            }
        }))
    }

    fn start(work: impl FnOnce(&AtomicBool) + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        Server { stop, thread: Some(thread::spawn(move || work(&seen))) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic has been printed.
            let _ = thread.join();
        }
    }
}

/// Waits for something to come in; `false` once it is time to stop.
fn wait(socket: &impl AsFd, stop: &AtomicBool) -> bool {
    while !stop.load(Ordering::Relaxed) {
        let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, PollTimeout::from(50u8)).is_ok_and(|count| count > 0) {
            return true;
        }
    }
    false
}

/// Answers the requests of one connection.
fn serve(stream: TcpStream, name: &str) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    // An answer is written in two pieces; the second shall not wait for the acknowledgement of the first.
    stream.set_nodelay(true)?;
    // A test on a busy machine may be silent for a while.
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    let peer = stream.peer_addr()?.ip().to_canonical();
    let mut input = BufReader::new(stream.try_clone()?);
    let mut output = stream;
    while let Some(Request { path, headers, is_last }) = request(&mut input)? {
        let length = headers.get("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        if headers.get("expect").is_some_and(|value| value == "100-continue") {
            output.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let mut received = Vec::new();
        input.by_ref().take(length).read_to_end(&mut received)?;
        let received = right(&received);
        let body = match path.strip_prefix("/bytes/").and_then(|count| count.parse().ok()) {
            Some(count) => text(count),
            None => format!("{name} {peer} {received}\n").into_bytes(),
        };
        write!(output, "HTTP/1.1 200 OK\r\nServer: {name}\r\nContent-Length: {}\r\n\r\n", body.len())?;
        output.write_all(&body)?;
        if is_last {
            break;
        }
    }
    Ok(())
}

/// How many bytes are those that were sent.
fn right(received: &[u8]) -> usize {
    received.iter().zip(text(received.len())).take_while(|(came, sent)| *came == sent).count()
}

/// A request without its body.
struct Request {
    path: String,
    headers: HashMap<String, String>,
    /// Whether the client waits for the end of the connection.
    is_last: bool,
}

/// The next request; `None` when there is none.
fn request(input: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if input.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let path = line.split_whitespace().nth(1).unwrap_or("/").to_owned();
    let old = line.trim_end().ends_with("HTTP/1.0");
    let mut headers = HashMap::<String, String>::new();
    loop {
        line.clear();
        input.read_line(&mut line)?;
        let Some((key, value)) = line.trim_end().split_once(':') else {
            let is_last = old || headers.get("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
            return Ok(Some(Request { path, headers, is_last }));
        };
        headers.insert(key.to_lowercase(), value.trim().to_owned());
    }
}
