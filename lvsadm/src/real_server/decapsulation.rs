//! The decapsulating program: loading it and putting it on devices.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use aya::maps::HashMap;
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle};
use aya::programs::{Link, SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader};
use lvs_common::abi::tunnel::{TUNNELS, TunnelForm};
use lvs_common::abi::{AF_INET, AF_INET6, Address};
use serde::{Deserialize, Serialize};

use super::netlink;
use lvs_director::dataplane::{clsact, ticks_per_second};
use lvs_director::objects;

/// The filter's priority: before what is added without one, behind what asks to be first.
pub const PRIORITY: u16 = 1000;
/// The filter's handle at that priority.
const HANDLE: TcHandle = TcHandle::new(0, 1);

/// Whether the program opens a kind of tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Opened {
    /// Of a kind without a port: whether it does.
    Plain(bool),
    /// Of a kind with a port: on which, if it does.
    Port(Option<u16>),
}

impl Opened {
    /// Whether it is opened, and on which port (0 for a kind that has none).
    fn port(self) -> Option<u16> {
        match self {
            Opened::Plain(opened) => opened.then_some(0),
            Opened::Port(port) => port,
        }
    }
}

/// What the program opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnels {
    /// Every kind of tunnel by its name, and whether it is opened.
    #[serde(flatten)]
    pub kinds: BTreeMap<String, Opened>,
    /// Destinations of inner packets.
    pub vips: Vec<IpAddr>,
}

impl Tunnels {
    /// The kinds that are opened, each with its port.
    fn opened(&self) -> impl Iterator<Item = (&'static TunnelForm, u16)> {
        TUNNELS.iter().filter_map(|form| Some((form, self.kinds.get(form.name)?.port()?)))
    }
}

impl fmt::Display for Tunnels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (form, port)) in self.opened().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{}", form.name)?;
            if form.has_port() {
                write!(f, ":{port}")?;
            }
        }
        Ok(())
    }
}

/// Puts the program on ingress of the device, in place of the one that an earlier call put there. The kernel keeps it, and
/// its map with it, until it is detached or the device goes.
pub fn attach(device: &str, tunnels: &Tunnels) -> Result<()> {
    let mut object = load(tunnels)?;
    let program: &mut SchedClassifier =
        object.program_mut("real_server").context("the object has no program real_server")?.try_into()?;
    program.load().context("the kernel refuses the decapsulating program")?;
    clsact::add(device)?;
    let context = || format!("cannot attach the decapsulating program to {device}");
    let id = if netlink::has_filter(device, PRIORITY)? {
        program.attach_to_link(filter(device)?).with_context(context)?
    } else {
        let options = NlOptions { priority: PRIORITY, handle: HANDLE, ..NlOptions::default() };
        program
            .attach_with_options(device, TcAttachType::Ingress, TcAttachOptions::Netlink(options))
            .with_context(context)?
    };
    // The link would take the filter away with it.
    std::mem::forget(program.take_link(id)?);
    Ok(())
}

/// Takes it off again, with the queueing discipline it hangs on if nothing else does.
pub fn detach(device: &str) -> Result<()> {
    // With the device, its filters have gone.
    if nix::net::if_::if_nametoindex(device).is_err() {
        return Ok(());
    }
    if netlink::has_filter(device, PRIORITY)? {
        filter(device)?.detach().with_context(|| format!("cannot detach the decapsulating program from {device}"))?;
        netlink::remove_unused_clsact(device)?;
    }
    Ok(())
}

fn filter(device: &str) -> Result<SchedClassifierLink> {
    SchedClassifierLink::attached(device, TcAttachType::Ingress, PRIORITY, HANDLE, None)
        .with_context(|| format!("there is no device {device}"))
}

/// Loads the object with the settings and virtual addresses in it.
fn load(tunnels: &Tunnels) -> Result<Ebpf> {
    if objects::REAL_SERVER.is_empty() {
        bail!("this lvsadm was built without its eBPF programs: build it with `cargo xtask build`");
    }
    let (mut types, mut ports) = (0u32, [0u16; TUNNELS.len()]);
    for (form, port) in tunnels.opened() {
        types |= 1 << form.kind.0;
        ports[usize::from(form.kind.0)] = port.to_be();
    }
    let secret = RandomState::new().hash_one(0);
    let mut object = EbpfLoader::new()
        .override_global("TYPES", &types, true)
        .override_global("PORTS", &ports, true)
        .override_global("HZ", &ticks_per_second(), true)
        .override_global("SECRET", &secret, true)
        .load(objects::REAL_SERVER)
        .context("cannot load the decapsulating program")?;
    let map = object.map_mut("VIPS").context("the object has no map VIPS")?;
    let mut vips = HashMap::<_, [u32; 5], u32>::try_from(map)?;
    for vip in &tunnels.vips {
        vips.insert(key(*vip), 0, 0).with_context(|| format!("cannot tell the program about {vip}"))?;
    }
    Ok(object)
}

/// The program's key of a virtual address: family and address.
fn key(vip: IpAddr) -> [u32; 5] {
    let (family, Address([a, b, c, d])) = match vip {
        IpAddr::V4(v4) => (AF_INET, Address::v4(v4.octets())),
        IpAddr::V6(v6) => (AF_INET6, Address::v6(v6.octets())),
    };
    [family.into(), a, b, c, d]
}
