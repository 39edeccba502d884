//! `attach`, `detach`, `unload`.

use anyhow::{Result, bail};

use lvs_director::dataplane::{self, Defaults, Which};
use lvs_director::director::Access;

/// Attaches to the devices that are demanded, or to the usual ones, loading the data plane first where it is not. What cannot be
/// attached is an error if it was demanded, and else a line on standard error.
pub fn attach(demanded: &[String], with: &Defaults) -> Result<()> {
    let mut plane = dataplane::open_or_load(with.loading)?;
    let log = dataplane::log_level(&plane.directory.path());
    if log < with.loading.log {
        bail!(
            "the data plane is loaded with its log {}: `lvsadm unload` first, as the level is decided when it is loaded",
            log.name()
        );
    }
    let which = if demanded.is_empty() { Which::Usual(&with.devices) } else { Which::Demanded(demanded) };
    let refusals = dataplane::attach(&mut plane, which, with.mode)?;
    drop(plane);
    refusals.iter().for_each(|refusal| eprintln!("lvsadm: {}: {}", refusal.device, refusal.why));
    Ok(())
}

/// Detaches from devices; rules and connections stay.
pub fn detach(devices: &[String]) -> Result<()> {
    match dataplane::open(Access::Change)? {
        Some(mut plane) => Ok(dataplane::detach(&mut plane, devices)?),
        None => bail!("nothing is loaded in this network namespace"),
    }
}

/// Follows the log.
pub fn log() -> Result<()> {
    match dataplane::open(Access::Change)? {
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
