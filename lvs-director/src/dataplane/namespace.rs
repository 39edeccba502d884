//! The data plane of the calling thread's network namespace: opening, loading and unloading it as a whole.

use super::attach;
use super::bpffs::{self, Directory};
use super::defaults::Defaults;
use super::error::{Result, unfit};
use super::load;
use super::loading::Loading;
use super::pins;
use super::plane::Plane;

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
        Err(_) => unfit("the data plane is gone as soon as it was loaded"),
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
        pins::remove(&directory.path())?;
    }
    Ok(loaded)
}

/// Removes what network namespaces that are gone have left, and commands that were killed while they loaded.
fn collect(own: &Directory) -> Result<()> {
    for draft in own.left_drafts()? {
        pins::remove(&draft)?;
    }
    for name in own.all(bpffs::NAMESPACE)? {
        if name != own.name() && pins::is_dead(&own.sibling(&name)) {
            pins::remove(&own.sibling(&name))?;
        }
    }
    Ok(())
}
