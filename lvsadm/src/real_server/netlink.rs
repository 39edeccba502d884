//! The few requests to the kernel's route netlink that a real server's set-up needs.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};

/// Parents of the filters of a clsact queueing discipline, which itself has `CLSACT` as handle and parent.
const CLSACT: u32 = 0xffff_0000;
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;

/// Adds the address to `lo` as a host's own: never announced, never chosen as the source of the host's own packets.
pub fn add_to_loopback(address: IpAddr) -> Result<()> {
    address_request(address, libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_EXCL)
}

/// Removes it.
pub fn remove_from_loopback(address: IpAddr) -> Result<()> {
    address_request(address, libc::RTM_DELADDR, 0)
}

fn address_request(address: IpAddr, kind: u16, flags: i32) -> Result<()> {
    let (family, octets) = match address {
        IpAddr::V4(v4) => (libc::AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6, v6.octets().to_vec()),
    };
    let mut request = Request::new(kind, flags);
    // struct ifaddrmsg: family, prefix length, flags, scope, index.
    request.bytes(&[family as u8, octets.len() as u8 * 8, 0, libc::RT_SCOPE_HOST]);
    request.bytes(&if_nametoindex("lo").context("there is no lo")?.to_ne_bytes());
    request.attribute(libc::IFA_LOCAL, &octets);
    request.attribute(libc::IFA_ADDRESS, &octets);
    if address.is_ipv6() && kind == libc::RTM_NEWADDR {
        // struct ifa_cacheinfo: preferred for 0 s keeps it from being chosen as a source, valid for ever.
        let lifetimes = [0, u32::MAX, 0, 0];
        request.attribute(libc::IFA_CACHEINFO, &lifetimes.map(u32::to_ne_bytes).concat());
    }
    request.send().map(drop)
}

/// Whether the device has a filter of ours (of the priority `decapsulation` uses) on ingress.
pub fn has_filter(device: &str) -> Result<bool> {
    let priority = u32::from(super::decapsulation::PRIORITY);
    Ok(filters(device, INGRESS)?.contains(&priority))
}

/// Removes the device's clsact queueing discipline unless somebody has a filter on it.
pub fn remove_unused_clsact(device: &str) -> Result<()> {
    if !filters(device, INGRESS)?.is_empty() || !filters(device, EGRESS)?.is_empty() {
        return Ok(());
    }
    let mut request = Request::new(libc::RTM_DELQDISC, 0);
    request.traffic_control(device, CLSACT, 0xffff_fff1)?;
    request.send().map(drop)
}

/// The priorities of a device's filters; none if it has no clsact queueing discipline.
fn filters(device: &str, parent: u32) -> Result<Vec<u32>> {
    let mut request = Request::new(libc::RTM_GETTFILTER, libc::NLM_F_DUMP);
    request.traffic_control(device, 0, parent)?;
    // The information word of a filter's struct tcmsg has its priority in the upper half.
    let information = |message: Vec<u8>| Some(u32::from_ne_bytes(message.get(16..20)?.try_into().ok()?) >> 16);
    Ok(request.send()?.into_iter().filter_map(information).collect())
}

/// A request under construction.
struct Request {
    message: Vec<u8>,
}

impl Request {
    fn new(kind: u16, flags: i32) -> Self {
        let mut message = vec![0; 16];
        message[4..6].copy_from_slice(&kind.to_ne_bytes());
        let flags = (flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        message[6..8].copy_from_slice(&flags.to_ne_bytes());
        Request { message }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.message.extend_from_slice(bytes);
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.bytes(&(value.len() as u16 + 4).to_ne_bytes());
        self.bytes(&kind.to_ne_bytes());
        self.bytes(value);
        self.message.resize(self.message.len().next_multiple_of(4), 0);
    }

    /// A `struct tcmsg`: family, index, handle, parent, information.
    fn traffic_control(&mut self, device: &str, handle: u32, parent: u32) -> Result<()> {
        let index = if_nametoindex(device).with_context(|| format!("there is no device {device}"))?;
        for word in [0, index, handle, parent, 0] {
            self.bytes(&word.to_ne_bytes());
        }
        Ok(())
    }

    /// Sends it and returns the bodies of what is answered up to the acknowledgement.
    fn send(mut self) -> Result<Vec<Vec<u8>>> {
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

/// The first message of a buffer: its type, its body, and what follows it.
fn split(buffer: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(buffer.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(buffer.get(4..6)?.try_into().ok()?);
    let next = length.next_multiple_of(4).min(buffer.len());
    Some((kind, buffer.get(16..length)?, &buffer[next..]))
}
