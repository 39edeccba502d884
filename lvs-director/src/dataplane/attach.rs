//! Attaching the programs to devices, by pinned links that outlive every process and go with their device.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::Path;

use aya::programs::links::FdLink;
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions};
use aya::programs::xdp::XdpMode;
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType, TcError, Xdp, loaded_programs};
use aya_obj::programs::XdpAttachType;
use lvs_common::abi::{DEVICE_SLOTS, Device, device_flags};
use lvs_common::programs::entry;

use super::bpffs::Directory;
use super::clsact::{self, HANDLE, PRIORITY};
use super::devices::{self, Headers, Link, NetDevice};
use super::error::{Context, Error, Result};
use super::kernel::has_tc_links;
use super::l3;
use super::pins::{self, LOOPBACK, is_alive, pin, unpin};
use super::plane::Plane;
use super::refused;
use super::vlans;
use crate::rules::{AttachMode, Attached};

/// A device's hooks, as their pins are called.
const HOOKS: [&str; 4] = ["xdp", "generic", "ingress", "egress"];

/// An attached device.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// The device's name.
    pub device: String,
    /// How it is served.
    pub attached: Attached,
    /// Whether the kernel has refused XDP on it.
    pub refused: bool,
    /// Why so.
    pub why: String,
}

/// A device that is not served as was asked for.
#[derive(Debug)]
pub struct Refusal {
    /// The device's name.
    pub device: String,
    /// Why, in a line.
    pub why: String,
}

/// Which devices to attach to.
#[derive(Clone, Copy, Debug)]
pub enum Which<'a> {
    /// These, or nothing.
    Demanded(&'a [String]),
    /// These as far as they can be, or every device that is up and can be served if there are no names.
    Usual(&'a [String]),
}

/// Attaches to devices and to `lo`. Of usual devices those that cannot be served as asked are left out or served by TC; the
/// answer names them.
pub fn attach(plane: &mut Plane, which: Which<'_>, mode: AttachMode) -> Result<Vec<Refusal>> {
    prepare_loopback()?;
    let all = devices::all()?;
    let mut refusals = Vec::new();
    match which {
        Which::Demanded(names) => {
            let find =
                |name: &String| all.iter().find(|d| d.link.name == *name).ok_or_else(|| Error::NoDevice(name.clone()));
            for device in names.iter().map(find).collect::<Result<Vec<_>>>()? {
                // `lo` is attached with whatever is.
                if device.link.index != LOOPBACK {
                    attach_device(plane, device, mode)?;
                }
            }
        }
        Which::Usual(names) => {
            for name in names.iter().filter(|name| !all.iter().any(|d| d.link.name == **name)) {
                refusals.push(Refusal { device: name.clone(), why: Error::NoDevice(name.clone()).line() });
            }
            let usual = |d: &&NetDevice| match names {
                [] => d.link.up && d.link.is_usual(),
                names => names.contains(&d.link.name) && d.link.index != LOOPBACK,
            };
            refusals.extend(all.iter().filter(usual).filter_map(|device| attach_if_possible(plane, device, mode)));
        }
    }
    attach_loopback(plane)?;
    write_devices(plane, &all)?;
    Ok(refusals)
}

/// Attaches to what the director itself sends.
pub fn attach_loopback(plane: &mut Plane) -> Result<()> {
    prepare_loopback()?;
    let _ = fs::remove_dir(pin(&plane.directory, "detached", LOOPBACK));
    attach_tc(&plane.directory, &Link::loopback(), "egress")
}

/// Attaches to devices that have come up since: the named ones, or any that can be served. A device that an operator
/// detached stays so. Nothing about a device is an error: the answer names those that cannot be served as asked.
pub fn attach_new(plane: &mut Plane, names: &[String], mode: AttachMode) -> Result<Vec<Refusal>> {
    let Differences { new, left, renamed, unwanted } = differences(plane, names)?;
    for name in left {
        let path = plane.directory.path().join("links").join(name);
        if path.is_dir() { pins::remove(&path)? } else { unpin(&path)? }
    }
    let mut refusals = Vec::new();
    if !new.is_empty() || renamed || !unwanted.is_empty() {
        let all = devices::all()?;
        for device in all.iter().filter(|d| unwanted.contains(&d.link.index)) {
            detach_hooks(&plane.directory, device)?;
        }
        let fresh = all.iter().filter(|d| new.contains(&d.link.index) && d.link.index != LOOPBACK);
        refusals.extend(fresh.filter_map(|device| attach_if_possible(plane, device, mode)));
        write_devices(plane, &all)?;
    }
    // `lo` even where there is nothing else: the director as a client, and the sign that the namespace lives.
    if !pin(&plane.directory, "detached", LOOPBACK).exists() {
        prepare_loopback()?;
        attach_tc(&plane.directory, &Link::loopback(), "egress")?;
    }
    Ok(refusals)
}

/// Where devices and pins differ.
#[derive(Debug, Default)]
pub struct Differences {
    /// Indices of devices that [`attach_new`] attaches to, `lo` among them.
    pub new: Vec<u32>,
    /// Names of pins of devices that this network namespace has no longer.
    pub left: Vec<String>,
    /// Whether a device is other than the data plane knows: its MAC address, or that of a VLAN may be used.
    pub renamed: bool,
    /// Indices of devices that are attached and should not be: they have become a bond's port, say, or an operator's command that detached
    /// them was killed.
    pub unwanted: Vec<u32>,
}

impl Differences {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.new.is_empty() && self.left.is_empty() && !self.renamed && self.unwanted.is_empty()
    }
}

/// Compares the devices that are there with the pins.
pub fn differences(plane: &Plane, names: &[String]) -> Result<Differences> {
    let pins = fs::read_dir(plane.directory.path().join("links")).context("cannot read a directory of pins")?;
    let pins = pins.map(|pin| Ok(pin?.file_name())).collect::<io::Result<HashSet<OsString>>>()?;
    let links = devices::links()?;
    let has = |kind, index| pins.contains(OsStr::new(&format!("{kind}-{index}")));
    let known = |link: &Link| {
        let hook = if link.index == LOOPBACK { "egress" } else { "ingress" };
        // A pin without a device is of one that had the index before.
        has("detached", link.index) || has(hook, link.index) && is_in_force(&pin(&plane.directory, hook, link.index))
    };
    let wanted = |link: &Link| {
        let named = if names.is_empty() { link.is_usual() } else { names.contains(&link.name) };
        link.index == LOOPBACK || link.up && named && link.unservable.is_none()
    };
    let new = links.iter().filter(|link| wanted(link) && !known(link)).map(|link| link.index).collect();
    let is_attached = |link: &&Link| HOOKS.iter().any(|hook| has(hook, link.index));
    let is_unwanted = |link: &&Link| link.unservable.is_some() || has("detached", link.index);
    let unwanted = links.iter().filter(is_unwanted).filter(is_attached).map(|link| link.index).collect();
    let indices: HashSet<u32> = links.iter().map(|link| link.index).collect();
    let is_left = |name: &&str| {
        let index = name.rsplit_once('-').and_then(|(_, index)| index.parse().ok());
        index.is_some_and(|index| !indices.contains(&index))
    };
    let left = pins.iter().filter_map(|name| name.to_str()).filter(is_left).map(str::to_owned).collect();
    let renamed = links.iter().any(|link| {
        let noted = plane.device(link.index % DEVICE_SLOTS);
        noted.ifindex == link.index && (noted.mac != link.mac || vlans::is_stale(plane, link, &noted))
    });
    Ok(Differences { new, left, renamed, unwanted })
}

/// Whether a hook's pin is a filter's note, or a link whose device is there.
fn is_in_force(path: &Path) -> bool {
    path.is_dir() || is_alive(path)
}

/// Route look-ups are asked from `lo`, as the host's own; replies to the director as a client come back through it.
pub fn prepare_loopback() -> Result<()> {
    let settings = ["ipv4/conf/lo/forwarding", "ipv4/conf/lo/accept_local", "ipv6/conf/lo/forwarding"];
    for setting in settings {
        let path = format!("/proc/sys/net/{setting}");
        match fs::read_to_string(&path) {
            Ok(value) if value.trim() != "1" => {
                fs::write(&path, "1").with_context(|| format!("cannot write {path}"))?;
            }
            // Set, or a kernel without that family.
            _ => {}
        }
    }
    Ok(())
}

/// Attaches to a device that nobody demanded, by TC where the mode asked for is refused.
fn attach_if_possible(plane: &mut Plane, device: &NetDevice, mode: AttachMode) -> Option<Refusal> {
    // No device without Ethernet headers runs XDP: nothing to report.
    let mode = if device.link.headers == Headers::Ip { AttachMode::Tc } else { mode };
    let Err(error) = attach_device(plane, device, mode) else { return None };
    // A device that is gone is no news.
    let gone = || devices::links().is_ok_and(|links| links.iter().all(|link| link.index != device.link.index));
    let by_tc = mode != AttachMode::Tc && attach_device(plane, device, AttachMode::Tc).is_ok();
    if !by_tc && gone() {
        return None;
    }
    // A note that cannot be made is only missing in `status`.
    let _ = refused::note(&plane.directory, device.link.index, &error);
    let why = if by_tc { format!("{}: served by tc", error.line()) } else { error.line() };
    Some(Refusal { device: device.link.name.clone(), why })
}

/// What holds the device's place for XDP, if that is not ours.
fn foreign_xdp(directory: &Directory, device: &NetDevice) -> Option<String> {
    let ours = ["xdp", "generic"].iter().any(|kind| is_alive(&pin(directory, kind, device.link.index)));
    if ours || device.link.xdp_program == 0 {
        return None;
    }
    let named = loaded_programs().flatten().find(|program| program.id() == device.link.xdp_program);
    let name = named.and_then(|program| program.name_as_str().map(|name| format!(" ({name})"))).unwrap_or_default();
    Some(format!("XDP program {}{name} of somebody else runs here", device.link.xdp_program))
}

fn attach_device(plane: &mut Plane, device: &NetDevice, mode: AttachMode) -> Result<()> {
    if let Some(reason) = device.why_not(mode) {
        return Err(Error::Unservable { device: device.link.name.clone(), reason });
    }
    let bare = device.link.headers == Headers::Ip;
    if bare {
        l3::load(plane)?;
    }
    let foreign = foreign_xdp(&plane.directory, device);
    if let (AttachMode::Native | AttachMode::Generic, Some(foreign)) = (mode, &foreign) {
        return Err(Error::XdpTaken { device: device.link.name.clone(), by: foreign.clone() });
    }
    let directory = &plane.directory;
    match mode {
        AttachMode::Native => attach_xdp(plane, device, "xdp", XdpMode::Driver)?,
        AttachMode::Generic => attach_xdp(plane, device, "generic", XdpMode::Skb)?,
        AttachMode::Auto if device.xdp_everywhere && foreign.is_none() => {
            attach_xdp(plane, device, "xdp", XdpMode::Driver)?
        }
        // A veth takes XDP's frames as soon as its peer lets it, and no event tells of that: XDP's programs are there before.
        AttachMode::Auto if device.is_virtual => plane.need_xdp()?,
        AttachMode::Auto => {}
        AttachMode::Tc => {
            unpin(&pin(directory, "xdp", device.link.index))?;
            unpin(&pin(directory, "generic", device.link.index))?;
        }
    }
    let _ = fs::remove_dir(pin(directory, "detached", device.link.index));
    pins::remove(&pin(directory, "refused", device.link.index))?;
    // Ingress is last: a device that has it has all of it, also after a command was killed.
    attach_tc(directory, &device.link, "egress")?;
    attach_tc(directory, &device.link, "ingress")
}

fn attach_xdp(plane: &Plane, device: &NetDevice, kind: &str, mode: XdpMode) -> Result<()> {
    let directory = &plane.directory;
    let path = pin(directory, kind, device.link.index);
    if is_alive(&path) {
        return Ok(());
    }
    let other = if kind == "xdp" { "generic" } else { "xdp" };
    unpin(&pin(directory, other, device.link.index))?;
    unpin(&path)?;
    plane.need_xdp()?;
    let mut program = Xdp::from_pin(directory.path().join(entry::XDP), XdpAttachType::Interface)?;
    let id = program.attach_to_if_index(device.link.index, mode).with_context(|| {
        format!(
            "cannot attach XDP to {}: see `ip link show {}` for who holds it, or use --mode tc",
            device.link.name, device.link.name
        )
    })?;
    let link: FdLink = program.take_link(id)?.try_into()?;
    link.pin(&path).with_context(|| format!("cannot pin the link to {}", device.link.name))?;
    Ok(())
}

fn attach_tc(directory: &Directory, link: &Link, hook: &str) -> Result<()> {
    let (name, bare) = (&*link.name, link.headers == Headers::Ip);
    let path = pin(directory, hook, link.index);
    let links = has_tc_links();
    if path.exists() && (!links || is_alive(&path)) {
        return Ok(());
    }
    unpin(&path)?;
    let (direction, program) = match (hook, bare) {
        ("ingress", false) => (TcAttachType::Ingress, entry::INGRESS),
        ("ingress", true) => (TcAttachType::Ingress, entry::L3_INGRESS),
        (_, false) => (TcAttachType::Egress, entry::EGRESS),
        (_, true) => (TcAttachType::Egress, entry::L3_EGRESS),
    };
    let mut program = SchedClassifier::from_pin(directory.path().join(program))?;
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
        Err(error) if tc_number(&error) == Some(libc::EEXIST) => {
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

/// What the kernel answered to a request about a TC filter: `EEXIST` if one of our priority and handle stands in the way.
fn tc_number(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::TcError(TcError::NetlinkError(error)) => error.raw_os_error(),
        _ => None,
    }
}

/// Tells the XDP program what it must know of the attached devices.
fn write_devices(plane: &mut Plane, all: &[NetDevice]) -> Result<()> {
    let natives = all.iter().any(|d| is_alive(&pin(&plane.directory, "xdp", d.link.index)));
    let mut known = Vec::new();
    for device in all {
        let native = is_alive(&pin(&plane.directory, "xdp", device.link.index));
        let generic = is_alive(&pin(&plane.directory, "generic", device.link.index));
        let accepts = native || device.xdp_everywhere || generic && !natives;
        known.push(Device {
            ifindex: device.link.index,
            flags: if accepts { device_flags::ACCEPTS_XDP } else { 0 }
                | if device.is_virtual { device_flags::NO_TX } else { 0 }
                | if device.link.headers == Headers::Ip { device_flags::NO_ETHERNET } else { 0 },
            mac: device.link.mac,
            ..Device::default()
        });
    }
    vlans::mark(plane, all, &mut known)?;
    for device in known {
        plane.put_device(device.ifindex % DEVICE_SLOTS, device);
    }
    plane.know_sources()
}

/// Detaches from the named devices, or from all.
pub fn detach(plane: &mut Plane, names: &[String]) -> Result<()> {
    let all = devices::all()?;
    for name in names {
        if !all.iter().any(|d| d.link.name == *name) {
            return Err(Error::NoDevice(name.clone()));
        }
    }
    for device in all.iter().filter(|d| names.is_empty() || names.contains(&d.link.name)) {
        let directory = &plane.directory;
        // The note is first: the next command does what one that was killed did not.
        let marker = pin(directory, "detached", device.link.index);
        if !marker.exists() {
            fs::create_dir(&marker).context("cannot note that a device is detached")?;
        }
        detach_hooks(directory, device)?;
    }
    Ok(())
}

fn detach_hooks(directory: &Directory, device: &NetDevice) -> Result<()> {
    HOOKS.iter().try_for_each(|hook| detach_hook(directory, device, hook))
}

fn detach_hook(directory: &Directory, device: &NetDevice, kind: &str) -> Result<()> {
    let path = pin(directory, kind, device.link.index);
    if path.is_dir() {
        let direction = if kind == "ingress" { TcAttachType::Ingress } else { TcAttachType::Egress };
        let link = SchedClassifierLink::attached(&device.link.name, direction, PRIORITY, HANDLE, None)
            .context("cannot name a TC filter")?;
        match aya::programs::links::Link::detach(link) {
            // A command was killed before it removed the pin.
            Err(error) if tc_number(&error) == Some(libc::ENOENT) => {}
            other => other.with_context(|| format!("cannot detach from {}", device.link.name))?,
        }
        return fs::remove_dir(&path).context("cannot remove a pin");
    }
    unpin(&path)
}

/// Detaches from everything, before the data plane is unloaded.
pub fn detach_all(directory: &Directory) -> Result<()> {
    for device in devices::all()? {
        detach_hooks(directory, &device)?;
    }
    Ok(())
}

/// Devices that are not attached because the kernel refused it, with its reasons.
pub fn left_out(plane: &Plane) -> Result<Vec<Refusal>> {
    let links = devices::links()?.into_iter();
    let left_out = links.filter(|link| !pin(&plane.directory, "ingress", link.index).exists());
    let refused = left_out.filter_map(|link| {
        let why = refused::why(&plane.directory, &link)?;
        Some(Refusal { device: link.name, why })
    });
    Ok(refused.collect())
}

/// Every attached device, in the order of their indices.
pub fn attachments(plane: &Plane) -> Result<Vec<Attachment>> {
    let mut found = Vec::new();
    for device in devices::all()? {
        let refusal = refused::why(&plane.directory, &device.link);
        let has = |kind| pin(&plane.directory, kind, device.link.index).exists();
        let (attached, why) = if has("xdp") {
            (Attached::Native, "the driver runs XDP".to_owned())
        } else if has("generic") {
            (Attached::Generic, "asked for".to_owned())
        } else if has("ingress") {
            let foreign = foreign_xdp(&plane.directory, &device);
            let refused = refusal.as_ref().map(|why| format!("XDP was asked for, and is refused: {why}"));
            (
                Attached::Tc,
                foreign.or(refused).or_else(|| vlans::carrier(plane, &device.link)).unwrap_or(device.why_not_xdp),
            )
        } else if has("egress") {
            (Attached::Egress, "the director as a client, and its own servers".to_owned())
        } else {
            continue;
        };
        found.push(Attachment { device: device.link.name, attached, refused: refusal.is_some(), why });
    }
    Ok(found)
}
