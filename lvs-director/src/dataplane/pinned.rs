//! What the kernel says of a pinned map, whatever its elements are.

use std::path::Path;

use aya::maps::{MapData, MapInfo};

use super::error::{Context, Result};

/// How many elements a map has room for.
pub fn elements(pin: &Path) -> Result<u32> {
    Ok(info(pin)?.max_entries())
}

/// The number that the kernel gave a map.
pub fn number(pin: &Path) -> Result<u32> {
    Ok(info(pin)?.id())
}

fn info(pin: &Path) -> Result<MapInfo> {
    let context = || format!("cannot open map {}", pin.display());
    MapData::from_pin(pin).with_context(context)?.info().with_context(context)
}
