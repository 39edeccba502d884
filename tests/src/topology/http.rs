//! Requests over HTTP, byte by byte.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::namespace::Namespace;

/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its header, names in lower case.
    pub header: BTreeMap<String, String>,
    /// What follows the header.
    pub body: String,
}

impl Reply {
    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("{self:?}"))
    }
}

impl Namespace {
    /// Sends these bytes to an address from within, and reads the answer until the connection ends.
    pub fn ask(&self, address: &str, request: &str) -> Result<Reply> {
        let mut text = String::new();
        self.enter(|| {
            let mut stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(request.as_bytes())?;
            stream.read_to_string(&mut text).context("no answer")
        })?;
        let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("no answer: {text}"))?;
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).context("no status")?;
        let header = lines.filter_map(|line| line.split_once(": "));
        let header: BTreeMap<String, String> =
            header.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        let is_in_chunks = header.get("transfer-encoding").is_some_and(|coding| coding == "chunked");
        let body =
            if is_in_chunks { joined(body).context("an answer in chunks that ends early")? } else { body.to_owned() };
        Ok(Reply { status, header, body })
    }

    /// Asks for a path, as a browser of this host does; `more` are further lines of the request's header.
    pub fn fetch(&self, address: &str, path: &str, more: &str) -> Result<Reply> {
        self.ask(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n"))
    }
}

/// A body that came in chunks (RFC 9112, 7.1).
fn joined(mut chunks: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (length, rest) = chunks.split_once("\r\n")?;
        let length = usize::from_str_radix(length, 16).ok()?;
        body.push_str(rest.get(..length)?);
        if length == 0 {
            return Some(body);
        }
        chunks = rest.get(length..)?.strip_prefix("\r\n")?;
    }
}
