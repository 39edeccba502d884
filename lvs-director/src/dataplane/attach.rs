//! Attaching the programs to devices, by pinned links that outlive every process and go with their device.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::Path;

use aya::programs::links::FdLink;
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions};
use aya::programs::xdp::XdpMode;
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType, TcError, TcHandle, Xdp};
use aya_obj::programs::XdpAttachType;
use lvs_common::abi::{DEVICE_SLOTS, Device, device_flags};
use lvs_common::programs::entry;

use super::bpffs::Directory;
use super::clsact;
use super::devices::{self, Link, NetDevice};
use super::error::{Context, Error, Result};
use super::kernel::has_tc_links;
use super::pins::{LOOPBACK, is_alive, pin, unpin};
use super::plane::Plane;
use crate::rules::{AttachMode, Attached};

/// Priority and handle of the TC filters where the kernel has no links for them (before Linux 6.6).
const PRIORITY: u16 = 900;
const HANDLE: TcHandle = TcHandle::new(0, 1);

/// An attached device.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// The device's name.
    pub device: String,
    /// How it is served.
    pub attached: Attached,
    /// Why so.
    pub why: String,
}

/// Attaches to every Ethernet-like device that is up and to `lo`, or to those that are named.
pub fn attach(plane: &mut Plane, names: &[String], mode: AttachMode) -> Result<()> {
    prepare_loopback()?;
    let all = devices::all()?;
    let chosen: Vec<&NetDevice> = if names.is_empty() {
        all.iter().filter(|d| d.up && d.ethernet).collect()
    } else {
        let find = |name: &String| all.iter().find(|d| d.name == *name).ok_or_else(|| Error::NoDevice(name.clone()));
        names.iter().map(find).collect::<Result<_>>()?
    };
    for device in &chosen {
        attach_device(plane, device, mode)?;
    }
    attach_loopback(plane)?;
    write_devices(plane, &all)
}

/// Attaches to what the director itself sends.
pub fn attach_loopback(plane: &mut Plane) -> Result<()> {
    prepare_loopback()?;
    let _ = fs::remove_dir(pin(&plane.directory, "detached", LOOPBACK));
    attach_tc(&plane.directory, LOOPBACK, "lo", "egress")
}

/// Attaches to devices that have come up since: the named ones, or any that are Ethernet-like. A device that an operator
/// detached stays so.
pub fn attach_new(plane: &mut Plane, names: &[String], mode: AttachMode) -> Result<()> {
    let pins = fs::read_dir(plane.directory.path().join("links")).context("cannot read a directory of pins")?;
    let pins: HashSet<OsString> = pins.map(|pin| Ok(pin?.file_name())).collect::<io::Result<_>>()?;
    let known =
        |index| ["ingress", "detached"].iter().any(|kind| pins.contains(OsStr::new(&format!("{kind}-{index}"))));
    let wanted = |link: &Link| if names.is_empty() { link.ethernet } else { names.contains(&link.name) };
    let fresh = devices::links()?.into_iter().filter(|link| link.up && wanted(link) && !known(link.index));
    let fresh: Vec<String> = fresh.map(|link| link.name).collect();
    if !fresh.is_empty() {
        return attach(plane, &fresh, mode);
    }
    // `lo` even where there is nothing else: the director as a client, and the sign that the namespace lives.
    if pin(&plane.directory, "detached", LOOPBACK).exists() {
        return Ok(());
    }
    prepare_loopback()?;
    attach_tc(&plane.directory, LOOPBACK, "lo", "egress")
}

/// Route look-ups are asked from `lo`, as the host's own; replies to the director as a client come back through it.
fn prepare_loopback() -> Result<()> {
    let settings = ["ipv4/conf/lo/forwarding", "ipv4/conf/lo/accept_local", "ipv6/conf/lo/forwarding"];
    for setting in settings {
        let path = format!("/proc/sys/net/{setting}");
        if Path::new(&path).exists() {
            fs::write(&path, "1").with_context(|| format!("cannot write {path}"))?;
        }
    }
    Ok(())
}

fn attach_device(plane: &mut Plane, device: &NetDevice, mode: AttachMode) -> Result<()> {
    let directory = &plane.directory;
    match mode {
        AttachMode::Native => attach_xdp(directory, device, "xdp", XdpMode::Driver)?,
        AttachMode::Generic => attach_xdp(directory, device, "generic", XdpMode::Skb)?,
        AttachMode::Auto if device.xdp_everywhere => attach_xdp(directory, device, "xdp", XdpMode::Driver)?,
        AttachMode::Auto => {}
        AttachMode::Tc => {
            unpin(&pin(directory, "xdp", device.index))?;
            unpin(&pin(directory, "generic", device.index))?;
        }
    }
    let _ = fs::remove_dir(pin(directory, "detached", device.index));
    attach_tc(directory, device.index, &device.name, "ingress")?;
    attach_tc(directory, device.index, &device.name, "egress")
}

fn attach_xdp(directory: &Directory, device: &NetDevice, kind: &str, mode: XdpMode) -> Result<()> {
    let path = pin(directory, kind, device.index);
    if is_alive(&path) {
        return Ok(());
    }
    let other = if kind == "xdp" { "generic" } else { "xdp" };
    unpin(&pin(directory, other, device.index))?;
    unpin(&path)?;
    let mut program = Xdp::from_pin(directory.path().join(entry::XDP), XdpAttachType::Interface)?;
    let id = program.attach_to_if_index(device.index, mode).with_context(|| {
        format!(
            "cannot attach XDP to {}: see `ip link show {}` for who holds it, or use --mode tc",
            device.name, device.name
        )
    })?;
    let link: FdLink = program.take_link(id)?.try_into()?;
    link.pin(&path).with_context(|| format!("cannot pin the link to {}", device.name))?;
    Ok(())
}

fn attach_tc(directory: &Directory, ifindex: u32, name: &str, hook: &str) -> Result<()> {
    let path = pin(directory, hook, ifindex);
    let links = has_tc_links();
    if path.exists() && (!links || is_alive(&path)) {
        return Ok(());
    }
    unpin(&path)?;
    let direction = if hook == "ingress" { TcAttachType::Ingress } else { TcAttachType::Egress };
    let mut program = SchedClassifier::from_pin(directory.path().join(format!("lvs_{hook}")))?;
    let context = || format!("cannot attach to {name}'s {hook}");
    if links {
        let options = TcAttachOptions::TcxOrder(LinkOrder::default());
        let id = program.attach_with_options(name, direction, options).with_context(context)?;
        let link: FdLink = program.take_link(id)?.try_into()?;
        link.pin(&path).with_context(context)?;
        return Ok(());
    }
    clsact::add(name)?;
    let options = NlOptions { priority: PRIORITY, handle: HANDLE, ..NlOptions::default() };
    let id = match program.attach_with_options(name, direction, TcAttachOptions::Netlink(options)) {
        // A command that was killed got so far.
        Err(error) if is_there_already(&error) => {
            let link = SchedClassifierLink::attached(name, direction, PRIORITY, HANDLE, None).with_context(context)?;
            program.attach_to_link(link)
        }
        result => result,
    };
    let id = id.with_context(context)?;
    // The filter is the kernel's; the link would take it away.
    std::mem::forget(program.take_link(id)?);
    fs::create_dir(&path).with_context(context)
}

/// Whether a TC filter of our priority and handle is what stands in the way.
fn is_there_already(error: &ProgramError) -> bool {
    match error {
        ProgramError::TcError(TcError::NetlinkError(error)) => error.raw_os_error() == Some(libc::EEXIST),
        _ => false,
    }
}

/// Tells the XDP program what it must know of the attached devices.
fn write_devices(plane: &mut Plane, all: &[NetDevice]) -> Result<()> {
    let natives = all.iter().any(|d| is_alive(&pin(&plane.directory, "xdp", d.index)));
    for device in all {
        let native = is_alive(&pin(&plane.directory, "xdp", device.index));
        let generic = is_alive(&pin(&plane.directory, "generic", device.index));
        let accepts = native || device.xdp_everywhere || generic && !natives;
        let entry = Device {
            ifindex: device.index,
            flags: if accepts { device_flags::ACCEPTS_XDP } else { 0 }
                | if device.is_virtual { device_flags::NO_TX } else { 0 },
            mac: device.mac,
        };
        plane.put_device(device.index % DEVICE_SLOTS, entry);
    }
    Ok(())
}

/// Detaches from the named devices, or from all.
pub fn detach(plane: &mut Plane, names: &[String]) -> Result<()> {
    let all = devices::all()?;
    for name in names {
        if !all.iter().any(|d| d.name == *name) {
            return Err(Error::NoDevice(name.clone()));
        }
    }
    for device in all.iter().filter(|d| names.is_empty() || names.contains(&d.name)) {
        let directory = &plane.directory;
        for kind in ["xdp", "generic", "ingress", "egress"] {
            detach_hook(directory, device, kind)?;
        }
        let marker = pin(directory, "detached", device.index);
        if (device.ethernet || device.index == LOOPBACK) && !marker.exists() {
            fs::create_dir(&marker).context("cannot note that a device is detached")?;
        }
    }
    Ok(())
}

fn detach_hook(directory: &Directory, device: &NetDevice, kind: &str) -> Result<()> {
    let path = pin(directory, kind, device.index);
    if path.is_dir() {
        let direction = if kind == "ingress" { TcAttachType::Ingress } else { TcAttachType::Egress };
        let link = SchedClassifierLink::attached(&device.name, direction, PRIORITY, HANDLE, None)
            .context("cannot name a TC filter")?;
        aya::programs::links::Link::detach(link).with_context(|| format!("cannot detach from {}", device.name))?;
        return fs::remove_dir(&path).context("cannot remove a pin");
    }
    unpin(&path)
}

/// Detaches from everything, before the data plane is unloaded.
pub fn detach_all(directory: &Directory) -> Result<()> {
    for device in devices::all()? {
        for kind in ["xdp", "generic", "ingress", "egress"] {
            detach_hook(directory, &device, kind)?;
        }
    }
    Ok(())
}

/// Every attached device, in the order of their indices.
pub fn attachments(plane: &Plane) -> Result<Vec<Attachment>> {
    let mut found = Vec::new();
    for device in devices::all()? {
        let has = |kind| pin(&plane.directory, kind, device.index).exists();
        let (attached, why) = if has("xdp") {
            (Attached::Native, "the driver runs XDP".to_owned())
        } else if has("generic") {
            (Attached::Generic, "asked for".to_owned())
        } else if has("ingress") {
            (Attached::Tc, device.why_not_xdp.clone())
        } else if has("egress") {
            (Attached::Egress, "the director as a client, and its own servers".to_owned())
        } else {
            continue;
        };
        found.push(Attachment { device: device.name, attached, why });
    }
    Ok(found)
}
