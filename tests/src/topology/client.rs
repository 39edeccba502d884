//! Clients inside a namespace.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::namespace::Namespace;
use super::session::{Origin, Session};
use crate::{text, uninterrupted};

/// A port of clients that none had before, below those that the kernel picks. What a director or a real server remembers of
/// an earlier client is not in the way of one that has it.
pub fn fresh_port() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    10_000 + TAKEN.fetch_add(1, Ordering::Relaxed) % 20_000
}

/// A client in a namespace.
#[derive(Clone, Copy)]
pub struct Client<'a>(pub &'a Namespace);

impl Client<'_> {
    /// The answer to a GET of `path`, by curl.
    pub fn get(self, to: SocketAddr, path: &str) -> Result<String> {
        self.0.run(&format!("curl --silent --show-error --globoff --max-time 10 http://{to}{path}"))
    }

    /// The answer to a POST of `length` bytes, by curl.
    pub fn post(self, to: SocketAddr, length: usize) -> Result<String> {
        let body = std::env::temp_dir().join(format!("{}-{length}", self.0.name()));
        std::fs::write(&body, text(length))?;
        let curl = "curl --silent --show-error --globoff --max-time 20 -H Content-Type:text/plain";
        let answer = self.0.run(&format!("{curl} --data-binary @{} http://{to}/", body.display()));
        std::fs::remove_file(body)?;
        answer
    }

    /// How many of `count` requests each server answered, each request over a connection of its own.
    pub fn spread(self, to: SocketAddr, count: usize) -> Result<BTreeMap<String, usize>> {
        let mut spread = BTreeMap::new();
        for _ in 0..count {
            let answer = self.get(to, "/")?;
            let server = answer.split_whitespace().next().context("an empty answer")?;
            *spread.entry(server.to_owned()).or_default() += 1;
        }
        Ok(spread)
    }

    /// Requests from `clients` at once for so long, a few over each connection: how many were answered. One that is not
    /// answered within 10 seconds, or in another way than an HTTP server would, is an error.
    pub fn load(self, to: SocketAddr, clients: usize, duration: Duration) -> Result<usize> {
        let end = Instant::now() + duration;
        let client = || {
            self.0.enter(|| {
                let mut answered = 0;
                while Instant::now() < end {
                    answered += connection(to).with_context(|| format!("after {answered} requests"))?;
                }
                Ok(answered)
            })
        };
        thread::scope(|scope| {
            let clients: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
            clients.into_iter().map(|c| c.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).sum()
        })
    }

    /// The answer to a datagram of `length` bytes, sent from a port that none was sent from before.
    pub fn datagram(self, to: SocketAddr, length: usize) -> Result<String> {
        self.0.enter(|| {
            let socket = UdpSocket::bind((if to.is_ipv4() { "0.0.0.0" } else { "::" }, fresh_port()))?;
            socket.set_read_timeout(Some(Duration::from_secs(5)))?;
            socket.connect(to)?;
            socket.send(&text(length))?;
            let mut answer = [0; 256];
            let received =
                uninterrupted(|| socket.recv(&mut answer)).with_context(|| format!("no answer from {to}"))?;
            Ok(String::from_utf8_lossy(&answer[..received]).into_owned())
        })
    }
}

/// Makes some requests over a connection: how many.
fn connection(to: SocketAddr) -> Result<usize> {
    const REQUESTS: usize = 20;
    let mut session = Session::here(to, Origin::default())?;
    for _ in 0..REQUESTS {
        session.ask()?;
    }
    Ok(REQUESTS)
}
