//! `attach`, `detach`, `unload`.

use anyhow::{Result, bail};

use super::defaults::Defaults;
use crate::dataplane;

/// Attaches to devices, loading the data plane first where it is not.
pub fn attach(with: &Defaults) -> Result<()> {
    let mut plane = dataplane::open_or_load(with.loading)?;
    dataplane::attach(&mut plane, &with.devices, with.mode)
}

/// Detaches from devices; rules and connections stay.
pub fn detach(devices: &[String]) -> Result<()> {
    match dataplane::open()? {
        Some(mut plane) => dataplane::detach(&mut plane, devices),
        None => bail!("nothing is loaded in this network namespace"),
    }
}

/// Forgets everything.
pub fn unload() -> Result<()> {
    if !dataplane::unload()? {
        bail!("nothing is loaded in this network namespace");
    }
    Ok(())
}
