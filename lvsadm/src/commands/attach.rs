//! `attach`, `detach`, `unload`.

use anyhow::{Result, bail};

use lvs_director::dataplane::Defaults;
use lvs_director::dataplane::{self};

/// Attaches to devices, loading the data plane first where it is not.
pub fn attach(with: &Defaults) -> Result<()> {
    let mut plane = dataplane::open_or_load(with.loading)?;
    let log = dataplane::log_level(&plane.directory);
    if log < with.loading.log {
        bail!(
            "the data plane is loaded with its log {}: `lvsadm unload` first, as the level is decided when it is loaded",
            log.name()
        );
    }
    Ok(dataplane::attach(&mut plane, &with.devices, with.mode)?)
}

/// Detaches from devices; rules and connections stay.
pub fn detach(devices: &[String]) -> Result<()> {
    match dataplane::open()? {
        Some(mut plane) => Ok(dataplane::detach(&mut plane, devices)?),
        None => bail!("nothing is loaded in this network namespace"),
    }
}

/// Follows the log.
pub fn log() -> Result<()> {
    match dataplane::open()? {
        Some(plane) => Ok(dataplane::follow(plane)?),
        None => bail!("nothing is loaded in this network namespace: `lvsadm attach --log info` loads it with a log"),
    }
}

/// Forgets everything.
pub fn unload() -> Result<()> {
    if !dataplane::unload()? {
        bail!("nothing is loaded in this network namespace");
    }
    Ok(())
}
