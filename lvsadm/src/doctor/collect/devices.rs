//! Network devices and how they are served.

use std::collections::HashMap;
use std::fs;

use anyhow::{Context, Result};
use aya::programs::{SchedClassifier, TcAttachType};
use lvs_director::dataplane::{self, NetDevice, Plane};
use lvs_director::netlink::{self, ROUTE};
use lvs_director::rules::AttachMode;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkHeader, LinkMessage};

use super::super::facts::Device;

/// Bytes of `struct ifinfomsg`.
const HEADER: usize = 16;
/// `IFLA_NUM_RX_QUEUES`
const RX_QUEUES: u16 = 32;
/// How the data plane's programs begin.
const OURS: &str = "lvs_";
/// `lo`
const LOOPBACK: u32 = 1;

/// All devices but `lo`, which is served otherwise.
pub fn devices(plane: &Plane, wanted: AttachMode) -> Result<Vec<Device>> {
    let attachments = dataplane::attachments(plane)?;
    let left_out = dataplane::left_out(plane)?;
    let numbers = numbers()?;
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32);
    let device = |device: NetDevice| {
        let name = device.link.name.clone();
        let attachment = attachments.iter().find(|attachment| attachment.device == name);
        let left = left_out.iter().find(|left| left.device == name);
        let (mtu, queues) = numbers.get(&device.link.index).copied().unwrap_or_default();
        Device {
            index: device.link.index,
            up: device.link.up,
            is_virtual: device.is_virtual,
            servable: device.link.is_usual(),
            attached: attachment.map(|attachment| attachment.attached),
            why: attachment.map(|it| it.why.clone()).or(left.map(|left| left.why.clone())).unwrap_or_default(),
            refused: attachment.is_some_and(|attachment| attachment.refused) || left.is_some(),
            wanted: Some(wanted),
            lro: device.lro,
            mtu,
            queues,
            spreads: spreads(&name),
            cpus,
            before: before(&name),
            rp_filter: rp_filter(&name),
            name,
        }
    };
    let all = dataplane::devices()?.into_iter().filter(|device| device.link.index != LOOPBACK);
    Ok(all.map(device).collect())
}

/// MTU and receive queues of each device.
fn numbers() -> Result<HashMap<u32, (u32, u32)>> {
    let messages = netlink::dump(ROUTE, RouteNetlinkMessage::GetLink(LinkMessage::default()))
        .context("cannot list the network devices")?;
    let read = |message: &netlink::Message| {
        let index = LinkHeader::parse(&message.body).ok()?.index;
        let number = |kind| Some(u32::from_ne_bytes(message.attribute(HEADER, kind)?.try_into().ok()?));
        Some((index, (number(libc::IFLA_MTU)?, number(RX_QUEUES).unwrap_or(1))))
    };
    Ok(messages.iter().filter_map(read).collect())
}

/// Whether a device's packets are spread over CPUs in software.
fn spreads(name: &str) -> bool {
    let mask = fs::read_to_string(format!("/sys/class/net/{name}/queues/rx-0/rps_cpus")).unwrap_or_default();
    mask.chars().any(|digit| digit.is_ascii_hexdigit() && digit != '0')
}

/// Programs of others at a device's TC ingress that come before the data plane's; those of older filters have an order of their own, and are
/// not told.
fn before(name: &str) -> Vec<String> {
    let Ok((_, programs)) = SchedClassifier::query_tcx(name, TcAttachType::Ingress) else { return Vec::new() };
    let names: Vec<String> =
        programs.iter().map(|program| program.name_as_str().unwrap_or("a program without a name").to_owned()).collect();
    match names.iter().position(|name| name.starts_with(OURS)) {
        Some(ours) => names[..ours].to_vec(),
        None => Vec::new(),
    }
}

/// The stricter of a device's `rp_filter` and that for all, as the kernel takes them.
fn rp_filter(name: &str) -> u8 {
    let of = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter")).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    };
    of(name).max(of("all"))
}
