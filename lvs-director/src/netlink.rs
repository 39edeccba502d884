//! Requests to the kernel's route netlink (RFC 3549).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::Result;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};

/// What of an attribute's type is not a flag.
const NLA_TYPE_MASK: u16 = 0x3fff;

/// A request under construction.
#[derive(Debug)]
pub struct Request {
    message: Vec<u8>,
}

impl Request {
    /// A request of this type, with flags beside those that all have.
    pub fn new(kind: u16, flags: i32) -> Self {
        let mut message = vec![0; 16];
        message[4..6].copy_from_slice(&kind.to_ne_bytes());
        let flags = (flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        message[6..8].copy_from_slice(&flags.to_ne_bytes());
        Request { message }
    }

    /// Appends bytes, of the type's fixed part.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.message.extend_from_slice(bytes);
    }

    /// Appends an attribute.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.bytes(&(value.len() as u16 + 4).to_ne_bytes());
        self.bytes(&kind.to_ne_bytes());
        self.bytes(value);
        self.message.resize(self.message.len().next_multiple_of(4), 0);
    }

    /// Sends it and returns the bodies of what is answered up to the acknowledgement.
    pub fn send(mut self) -> Result<Vec<Vec<u8>>> {
        let length = self.message.len() as u32;
        self.message[..4].copy_from_slice(&length.to_ne_bytes());
        let socket: OwnedFd =
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        send(socket.as_raw_fd(), &self.message, MsgFlags::empty())?;
        let (mut bodies, mut buffer) = (Vec::new(), vec![0; 65536]);
        loop {
            let received = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let mut rest = &buffer[..received];
            while let Some((kind, body, after)) = split(rest) {
                match i32::from(kind) {
                    libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                        let code = body.get(..4).map_or(0, |b| i32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
                        return match code {
                            0 => Ok(bodies),
                            code => Err(io::Error::from_raw_os_error(-code).into()),
                        };
                    }
                    _ => bodies.push(body.to_vec()),
                }
                rest = after;
            }
        }
    }
}

/// The value of the first attribute of a type among `attributes`.
pub fn attribute(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(attributes.get(..2)?.try_into().ok()?));
        let value = attributes.get(4..length)?;
        if u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?) & NLA_TYPE_MASK == kind {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

/// The first message of a buffer: its type, its body, and what follows it.
fn split(buffer: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(buffer.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(buffer.get(4..6)?.try_into().ok()?);
    let next = length.next_multiple_of(4).min(buffer.len());
    Some((kind, buffer.get(16..length)?, &buffer[next..]))
}
