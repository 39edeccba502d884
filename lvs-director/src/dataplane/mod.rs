//! The eBPF data plane: loading it, attaching it, and the director made of its maps.

mod attach;
pub mod bpffs;
mod convert;
mod defaults;
mod defence;
mod destinations;
mod devices;
mod director;
mod end;
mod features;
mod layout;
pub mod link;
mod listing;
mod load;
mod locals;
mod log;
mod mapped;
mod marks;
mod plane;
mod pod;
mod refusal;
mod rosters;
mod services;
mod slots;
mod syscall;
mod watch;

pub use attach::{Attachment, attach, attach_loopback, attach_new, attachments, detach};
pub use defaults::Defaults;
pub use defence::Defence;
pub use devices::{NetDevice, all as devices};
pub use director::PlaneDirector;
pub use load::{Loading, Sizes, remove as remove_pins, verify};
pub use log::{LogLevel, follow};
pub use plane::Plane;
pub use refusal::refused;

use anyhow::Result;

/// Opens this network namespace's data plane, if it is loaded.
pub fn open() -> Result<Option<Plane>> {
    Ok(Plane::open(bpffs::open()?)?.ok())
}

/// Opens this network namespace's data plane; loads and attaches it first where it is not.
pub fn open_or_load(loading: Loading) -> Result<Plane> {
    let directory = match Plane::open(bpffs::open()?)? {
        Ok(plane) => return Ok(plane),
        Err(directory) => directory,
    };
    collect(&directory)?;
    load::load(&directory, loading)?;
    match Plane::open(directory)? {
        Ok(plane) => Ok(plane),
        Err(_) => anyhow::bail!("the data plane is gone as soon as it was loaded"),
    }
}

/// This network namespace's data plane, loaded and attached to whatever devices have come up.
pub fn ready() -> Result<Plane> {
    let defaults = Defaults::read()?;
    let mut plane = open_or_load(defaults.loading)?;
    attach::attach_new(&mut plane, &defaults.devices, defaults.mode)?;
    plane.know_the_host()?;
    Ok(plane)
}

/// Unloads this network namespace's data plane: detaches, and forgets rules and connections.
pub fn unload() -> Result<bool> {
    let directory = bpffs::open()?;
    let loaded = directory.path().exists();
    if loaded {
        attach::detach_all(&directory)?;
        load::remove(&directory.path())?;
    }
    Ok(loaded)
}

/// Removes what network namespaces that are gone have left, and commands that were killed while they loaded.
fn collect(own: &bpffs::Directory) -> Result<()> {
    for draft in own.left_drafts()? {
        load::remove(&draft)?;
    }
    for name in own.all(bpffs::NAMESPACE)? {
        if name != own.name() && attach::is_dead(&own.sibling(&name)) {
            load::remove(&own.sibling(&name))?;
        }
    }
    Ok(())
}

/// Whether the running kernel is of this version or a later one.
fn kernel_at_least(major: u32, minor: u32) -> bool {
    let release = load::kernel_release();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}
