//! Having packets come to the data plane's own programs again.

use std::path::Path;

use aya::maps::{Map, MapData, PerCpuArray};

use super::super::bpffs::{Directory, WATCH};
use super::super::error::Result;
use super::super::generation::links;
use super::super::pins::remove;
use super::super::plane::Plane;

/// The map that counts reports that there was no room for.
pub const LOST: &str = "LOST";

/// The number of the process that observes a data plane's packets, or did so when it was killed.
pub fn observer(directory: &Directory) -> Result<Option<u32>> {
    let all = directory.all(&format!("{}-", directory.name_of(WATCH)))?;
    Ok(all.iter().find_map(|name| name.rsplit_once('-')?.1.parse().ok()))
}

/// Who observes a data plane's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The number of the process, which may have been killed.
    pub process: u32,
    /// Reports that there was no room for.
    pub lost: u64,
}

/// Who observes a data plane's packets, and what was lost.
pub fn observation(directory: &Directory) -> Result<Option<Observation>> {
    let Some(process) = observer(directory)? else { return Ok(None) };
    // Whoever has just begun, or just ended, has no such map.
    let counts = MapData::from_pin(directory.watch(process).join(LOST)).ok().map(Map::PerCpuArray);
    let counts = counts.and_then(|map| PerCpuArray::<_, u64>::try_from(map).ok()?.get(&0, 0).ok());
    Ok(Some(Observation { process, lost: counts.map_or(0, |counts| counts.iter().sum()) }))
}

/// Ends what observes a data plane's packets: links run its own programs again. The process that observed notices.
pub fn withdraw(directory: &Directory) -> Result<()> {
    while let Some(process) = observer(directory)? {
        let stand = directory.watch(process);
        links::switch(&directory.path().join("links"), &stand, &directory.path())?;
        Plane::wait_for_packets();
        remove(&stand)?;
    }
    Ok(())
}

/// Ends what observes a data plane's packets if the process is gone. `false` if it observes.
pub fn collect(directory: &Directory) -> Result<bool> {
    match observer(directory)? {
        Some(process) if is_alive(process) => Ok(false),
        _ => withdraw(directory).map(|()| true),
    }
}

fn is_alive(process: u32) -> bool {
    Path::new("/proc").join(process.to_string()).exists()
}

/// Whether somebody observes whose process is gone.
pub fn is_left(directory: &Directory) -> Result<bool> {
    Ok(observer(directory)?.is_some_and(|process| !is_alive(process)))
}
