//! `attach`, `detach`, `unload`.

use anyhow::{Result, bail};

use crate::dataplane::{self, Sizes};
use crate::grammar::subcommands::AttachMode;

/// Attaches to devices, loading the data plane first where it is not.
pub fn attach(devices: &[String], mode: AttachMode, connections: Option<u32>) -> Result<()> {
    let mut sizes = Sizes::of_host();
    if let Some(connections) = connections {
        sizes.connections = connections;
    }
    let mut plane = dataplane::open_or_load(sizes)?;
    dataplane::attach(&mut plane, devices, mode)
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
