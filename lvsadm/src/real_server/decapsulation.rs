//! The programs of tunnels: one opens them where packets come in, one has buffers of datagrams cut that came in them, and one lowers the
//! segment size (MSS) in SYN-ACKs that leave.

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

/// The filters' priority: before what is added without one, after what asks to be first.
const PRIORITY: u16 = 1000;
/// That of the filter on `lo` for buffers: tunnels may be opened on `lo`, too.
const AFTER: u16 = PRIORITY + 1;
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

    /// Whether some of them are tunnels over UDP: those have ports.
    pub fn are_over_udp(&self) -> bool {
        self.opened().any(|(form, _)| form.has_port())
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

/// A program of the object, and where it is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Opens tunnels.
    Ingress,
    /// Lowers the segment size.
    Egress,
    /// On `lo`: lets what the kernel cut there come in again.
    Segments,
}

impl Place {
    fn program(self) -> &'static str {
        match self {
            Place::Ingress => "real_server",
            Place::Egress => "real_server_replies",
            Place::Segments => "real_server_segments",
        }
    }

    fn hook(self) -> TcAttachType {
        match self {
            Place::Ingress | Place::Segments => TcAttachType::Ingress,
            Place::Egress => TcAttachType::Egress,
        }
    }

    fn priority(self) -> u16 {
        match self {
            Place::Ingress | Place::Egress => PRIORITY,
            Place::Segments => AFTER,
        }
    }

    /// Whether the device has a filter of the program's priority there.
    pub fn is_taken(self, device: &str) -> Result<bool> {
        match self {
            Place::Ingress | Place::Segments => netlink::has_ingress_filter(device, self.priority()),
            Place::Egress => netlink::has_egress_filter(device, self.priority()),
        }
    }
}

/// The object, loaded once for all devices of a call: what tunnels take is known wherever the answers leave.
#[derive(Default)]
pub struct Programs(Option<(Tunnels, Ebpf)>);

impl Programs {
    /// The program of a place.
    fn get(&mut self, tunnels: &Tunnels, place: Place) -> Result<&mut SchedClassifier> {
        if !self.0.as_ref().is_some_and(|(loaded, _)| loaded == tunnels) {
            self.0 = Some((tunnels.clone(), load(tunnels)?));
        }
        let (_, object) = self.0.as_mut().context("nothing is loaded")?;
        let name = place.program();
        Ok(object.program_mut(name).with_context(|| format!("the object has no program {name}"))?.try_into()?)
    }
}

/// Puts a program on the device, in place of the one that an earlier call put there. The kernel keeps it, and its map with it, until
/// it is detached or the device goes.
pub fn attach(device: &str, tunnels: &Tunnels, place: Place, programs: &mut Programs) -> Result<()> {
    let program = programs.get(tunnels, place)?;
    clsact::add(device)?;
    let context = || format!("cannot attach {} to {device}", place.program());
    let id = if place.is_taken(device)? {
        program.attach_to_link(filter(device, place)?).with_context(context)?
    } else {
        let options = NlOptions { priority: place.priority(), handle: HANDLE, ..NlOptions::default() };
        program.attach_with_options(device, place.hook(), TcAttachOptions::Netlink(options)).with_context(context)?
    };
    // The link would take the filter away with it.
    std::mem::forget(program.take_link(id)?);
    Ok(())
}

/// Takes it off again, with the queueing discipline it hangs on if nothing else does.
pub fn detach(device: &str, place: Place) -> Result<()> {
    // With the device, its filters have gone.
    if nix::net::if_::if_nametoindex(device).is_err() {
        return Ok(());
    }
    if place.is_taken(device)? {
        let context = || format!("cannot detach {} from {device}", place.program());
        filter(device, place)?.detach().with_context(context)?;
        netlink::remove_unused_clsact(device)?;
    }
    Ok(())
}

fn filter(device: &str, place: Place) -> Result<SchedClassifierLink> {
    SchedClassifierLink::attached(device, place.hook(), place.priority(), HANDLE, None)
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
        .context("cannot load the programs for tunnels")?;
    let map = object.map_mut("VIPS").context("the object has no map VIPS")?;
    let mut vips = HashMap::<_, [u32; 5], u32>::try_from(map)?;
    for vip in &tunnels.vips {
        vips.insert(key(*vip), 0, 0).with_context(|| format!("cannot tell the program about {vip}"))?;
    }
    for place in [Place::Ingress, Place::Egress, Place::Segments] {
        let name = place.program();
        let program = object.program_mut(name).with_context(|| format!("the object has no program {name}"))?;
        let program: &mut SchedClassifier = program.try_into()?;
        program.load().with_context(|| format!("the kernel refuses {name}"))?;
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
