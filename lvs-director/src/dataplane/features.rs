//! XDP features of drivers, asked of the kernel's `netdev` netlink family (Linux 6.3).

use std::collections::HashMap;

use netlink_packet_core::DefaultNla;

use crate::netlink::{self, GENERIC, Message};

/// `NETDEV_XDP_ACT_*`: basic actions, redirecting away, taking redirected frames.
const BASIC: u64 = 1;
const REDIRECT: u64 = 2;
const XMIT: u64 = 4;

/// Bytes of `struct genlmsghdr`.
const HEADER: usize = 4;
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
    let request = Message::new(family("netdev")?, &header(DEVICE_GET), &[] as &[DefaultNla]);
    let read = |message: &Message| {
        let index = u32::from_ne_bytes(message.attribute(HEADER, DEVICE_IFINDEX)?.try_into().ok()?);
        let bits = u64::from_ne_bytes(message.attribute(HEADER, DEVICE_XDP_FEATURES)?.try_into().ok()?);
        Some((index, bits))
    };
    Some(netlink::dump(GENERIC, request).ok()?.iter().filter_map(read).collect())
}

/// The number of a generic netlink family.
pub fn family(name: &str) -> Option<u16> {
    let name = DefaultNla::new(FAMILY_NAME, format!("{name}\0").into_bytes());
    let answer = netlink::get(GENERIC, Message::new(CONTROLLER, &header(GET_FAMILY), &[name])).ok()?;
    Some(u16::from_ne_bytes(answer.first()?.attribute(HEADER, FAMILY_ID)?.try_into().ok()?))
}

/// `struct genlmsghdr`: command, version, reserved.
fn header(command: u8) -> [u8; HEADER] {
    [command, 1, 0, 0]
}
