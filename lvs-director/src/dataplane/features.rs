//! XDP features of drivers, asked of the kernel's `netdev` netlink family (Linux 6.3).

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};

use crate::netlink;

/// `NETDEV_XDP_ACT_*`: basic actions, redirecting away, taking redirected frames.
const BASIC: u64 = 1;
const REDIRECT: u64 = 2;
const XMIT: u64 = 4;

/// Generic netlink's controller: family, command, attributes.
const CONTROLLER: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// The `netdev` family's command and attributes.
const DEVICE_GET: u8 = 1;
const DEVICE_IFINDEX: u16 = 1;
const DEVICE_XDP_FEATURES: u16 = 3;

/// Feature bits by device index; empty where the kernel does not tell.
pub type Features = HashMap<u32, u64>;

/// Asks for all devices' features.
pub fn all() -> Features {
    ask().unwrap_or_default()
}

/// Whether `auto` may use XDP in a device's driver, and why not.
pub fn judge(features: &Features, index: u32, name: &str) -> (bool, String) {
    match features.get(&index) {
        None => (false, "this kernel does not tell what the driver can do".into()),
        Some(bits) if bits & (BASIC | REDIRECT) != BASIC | REDIRECT => (false, "the driver does not run XDP".into()),
        Some(bits) if bits & XMIT == 0 => (false, "the driver takes no frames from XDP".into()),
        Some(_) if is_virtual(name) => {
            (false, "a virtual device's far end may lose frames from XDP: --mode native".into())
        }
        Some(_) => (true, String::new()),
    }
}

/// Whether a device is software only.
pub fn is_virtual(name: &str) -> bool {
    let driver = std::fs::read_to_string(format!("/sys/class/net/{name}/device/uevent")).unwrap_or_default();
    !driver.contains("DRIVER=")
}

fn ask() -> Option<Features> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let generic = SockProtocol::NetlinkGeneric;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, generic).ok()?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0)).ok()?;
    let name = attribute(FAMILY_NAME, b"netdev\0");
    let answer = request(&socket, CONTROLLER, GET_FAMILY, 0, &name)?;
    let id = answer.first().and_then(|message| netlink::attribute(message, FAMILY_ID))?;
    let family = u16::from_ne_bytes(id.get(..2)?.try_into().ok()?);
    let devices = request(&socket, family, DEVICE_GET, libc::NLM_F_DUMP as u16, &[])?;
    let read = |message: &Vec<u8>| {
        let index = u32::from_ne_bytes(netlink::attribute(message, DEVICE_IFINDEX)?.get(..4)?.try_into().ok()?);
        let bits = u64::from_ne_bytes(netlink::attribute(message, DEVICE_XDP_FEATURES)?.get(..8)?.try_into().ok()?);
        Some((index, bits))
    };
    Some(devices.iter().filter_map(read).collect())
}

/// An attribute: length, type, value, padding.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Sends a generic netlink request; the attributes of each message of the answer.
fn request(socket: &OwnedFd, family: u16, command: u8, flags: u16, body: &[u8]) -> Option<Vec<Vec<u8>>> {
    const HEADERS: usize = 16 + 4;
    let mut message = (HEADERS as u32 + body.len() as u32).to_ne_bytes().to_vec();
    message.extend(family.to_ne_bytes());
    message.extend((libc::NLM_F_REQUEST as u16 | flags).to_ne_bytes());
    message.extend([0; 8]);
    message.extend([command, 1, 0, 0]);
    message.extend(body);
    send(socket.as_raw_fd(), &message, MsgFlags::empty()).ok()?;
    let dump = flags != 0;
    let mut answers = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()).ok()?;
        let mut rest = buffer.get(..length)?;
        while let Some(head) = rest.get(..16) {
            let length = u32::from_ne_bytes(head[..4].try_into().ok()?) as usize;
            match i32::from(u16::from_ne_bytes(head[4..6].try_into().ok()?)) {
                libc::NLMSG_DONE => return Some(answers),
                libc::NLMSG_ERROR => return None,
                _ => answers.push(rest.get(HEADERS..length)?.to_vec()),
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        if !dump {
            return Some(answers);
        }
    }
}
