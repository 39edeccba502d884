//! The data plane of the calling thread's network namespace: opening, loading and unloading it as a whole.

use std::fs;
use std::io::ErrorKind;

use super::advertise;
use super::attach::{self, Refusal};
use super::bpffs::{self, Directory};
use super::defaults::Defaults;
use super::error::{Context, Result, unfit};
use super::kernel::has_tc_links;
use super::load;
use super::loading::Loading;
use super::memory::{self, Limits};
use super::observe::put_back;
use super::pins;
use super::plane::Plane;
use super::rehearsal;
use crate::director::{Access, Room};

/// Opens this network namespace's data plane, if it is loaded.
pub fn open(access: Access) -> Result<Option<Plane>> {
    if access == Access::Read
        && let Some(plane) = Plane::open_to_read(bpffs::open(access)?)?
    {
        return Ok(Some(plane));
    }
    Ok(opened()?.ok())
}

/// Opens this network namespace's data plane for changes. Where it is not loaded, nothing is left of one that was: the directory of pins
/// is given back.
fn opened() -> Result<Result<Plane, Directory>> {
    let opened = Plane::open(bpffs::open(Access::Change)?)?;
    if let Err(directory) = &opened {
        take_apart(directory)?;
    }
    Ok(opened)
}

/// Opens this network namespace's data plane for changes; loads it first where it is not.
pub fn open_or_load(loading: Loading) -> Result<Plane> {
    let directory = match opened()? {
        Ok(plane) => return Ok(plane),
        Err(directory) => directory,
    };
    collect(&directory)?;
    let limits = Limits::read();
    memory::admit(&loading, &limits)?;
    load::load(&directory, loading).map_err(|error| memory::explained(error, &loading, &limits))?;
    match Plane::open(directory)? {
        Ok(plane) => Ok(plane),
        Err(_) => unfit("the data plane is gone as soon as it was loaded"),
    }
}

/// This network namespace's data plane, loaded and attached to whatever devices have come up. Unless there is something to attach, who
/// only reads waits for nobody that reads, and who changes keeps nobody waiting while it looks at the host. If the data plane is
/// loaded now, there will be `room`.
pub fn ready(access: Access, room: Room) -> Result<Plane> {
    let defaults = Defaults::read()?;
    if let Some(mut plane) = unchanged(&defaults)?
        && (access == Access::Read || plane.become_writer()?)
    {
        return Ok(plane);
    }
    let loading = Loading { sizes: defaults.loading.sizes.with_room_for(room), ..defaults.loading };
    let mut plane = open_or_load(loading)?;
    adapt(&mut plane, &defaults)?;
    Ok(plane)
}

/// Makes this network namespace's data plane, if it is loaded, fit the devices, addresses and switches that the host has now. The
/// answer names devices that cannot be served as asked.
pub fn look_around(defaults: &Defaults) -> Result<Vec<Refusal>> {
    if unchanged(defaults)?.is_some() {
        return Ok(Vec::new());
    }
    open(Access::Change)?.map_or_else(|| Ok(Vec::new()), |mut plane| adapt(&mut plane, defaults))
}

/// Opens the data plane to read it, if it fits the host's devices.
fn unchanged(defaults: &Defaults) -> Result<Option<Plane>> {
    let Some(mut plane) = Plane::open_to_read(bpffs::open(Access::Read)?)? else { return Ok(None) };
    if !attach::differences(&plane, &defaults.devices)?.is_empty() || put_back::is_left(&plane.directory)? {
        return Ok(None);
    }
    attach::prepare_loopback()?;
    read_settings(&mut plane)?;
    Ok(Some(plane))
}

/// Makes a data plane fit the host.
fn adapt(plane: &mut Plane, defaults: &Defaults) -> Result<Vec<Refusal>> {
    put_back::collect(&plane.directory)?;
    let refusals = attach::attach_new(plane, &defaults.devices, defaults.mode)?;
    read_settings(plane)?;
    Ok(refusals)
}

/// Has packets come to the data plane's own programs again where a process that observed them was killed.
pub fn put_back() -> Result<()> {
    match Plane::open_to_read(bpffs::open(Access::Read)?)? {
        Some(plane) if put_back::is_left(&plane.directory)? => {}
        _ => return Ok(()),
    }
    open(Access::Change)?.map_or(Ok(()), |plane| put_back::collect(&plane.directory).map(drop))
}

/// Reads what the data plane has to know of the host's settings: `rp_filter` and its like, IPsec policies, ports of the host's own,
/// limits of ICMP errors.
fn read_settings(plane: &mut Plane) -> Result<()> {
    plane.know_sources()?;
    plane.know_policies()?;
    plane.know_the_host()?;
    plane.know_icmp_limits();
    // No device and no address may make a command fail: `status` tells which routes are missing.
    let _ = plane.advertise();
    plane.forget_dead_daemons()
}

/// Unloads this network namespace's data plane: detaches, and forgets rules and connections.
pub fn unload() -> Result<bool> {
    let directory = bpffs::open(Access::Change)?;
    // First of all, so that routers send elsewhere what is not served any more. No other command can put the routes back meanwhile.
    advertise::withdraw()?;
    put_back::withdraw(&directory)?;
    let was_left = take_apart(&directory)?;
    match fs::rename(directory.path(), directory.draft()) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(was_left),
        other => other.context("cannot move the directory of pins")?,
    }
    pins::remove(&directory.next())?;
    take_apart(&directory)
}

/// Detaches and removes what a directory's draft holds: a data plane that is being unloaded, or what a command that was killed left of one
/// as it loaded or unloaded it. Whether there was anything.
fn take_apart(directory: &Directory) -> Result<bool> {
    let draft = directory.draft();
    if !draft.exists() {
        return Ok(false);
    }
    attach::detach_all(&directory.drafted()?)?;
    pins::remove(&draft)?;
    Ok(true)
}

/// Removes what network namespaces that are gone have left, and commands that were killed while they loaded.
fn collect(own: &Directory) -> Result<()> {
    rehearsal::remove_left(own)?;
    // Without links a filter must be detached from within its namespace, which is gone or does that itself.
    for (draft, _lock) in own.left_drafts()?.iter().filter(|(draft, _)| has_tc_links() || pins::is_dead(draft)) {
        pins::remove(draft)?;
    }
    for name in own.all(bpffs::NAMESPACE)? {
        if name != own.name() && pins::is_dead(&own.sibling(&name)) {
            pins::remove(&own.sibling(&name))?;
            pins::remove(&own.sibling(&name.replacen(bpffs::NAMESPACE, bpffs::NEXT, 1)))?;
            for watch in own.all(&format!("{}-", name.replacen(bpffs::NAMESPACE, bpffs::WATCH, 1)))? {
                pins::remove(&own.sibling(&watch))?;
            }
        }
    }
    own.collect_locks()
}
