//! The mark of the layout in a directory of pinned maps.

use std::fs;
use std::path::Path;

use lvs_common::abi::LAYOUT_VERSION;

use super::super::birth::Birth;
use super::super::error::{Context, Error, Result};
use super::description::Description;

/// How the name of the mark begins; the version follows.
const MARK: &str = "layout-";

/// Marks a directory of pinned maps with the layout of this build, and describes it there.
pub fn mark(directory: &Path) -> Result<()> {
    Description::pin(directory)?;
    fs::create_dir(directory.join(own())).context("cannot mark the layout")
}

/// Refuses a directory of pinned maps that another build laid out: none of their bytes would mean what this build takes them
/// for.
pub fn check(directory: &Path) -> Result<()> {
    if is_own(directory) {
        return Ok(());
    }
    let (found, ours) = (found(directory)?, own());
    Err(match Description::read(directory) {
        Some(_) => Error::Layout { version: Birth::read(directory)?.version, found, ours },
        None => Error::UnknownLayout { found, ours },
    })
}

/// Whether the maps of a directory have the layout of this build.
pub fn is_own(directory: &Path) -> bool {
    directory.join(own()).exists()
}

/// The description of the maps of a directory.
pub fn of(directory: &Path) -> Result<Description> {
    if is_own(directory) {
        return Ok(Description::own());
    }
    match Description::read(directory) {
        Some(description) => Ok(description),
        None => Err(Error::UnknownLayout { found: found(directory)?, ours: own() }),
    }
}

/// The mark of a directory.
fn found(directory: &Path) -> Result<String> {
    let names = fs::read_dir(directory).context("cannot look into the directory of pins")?;
    let mut names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.find(|name| name.starts_with(MARK)).unwrap_or_else(|| "of no known layout".to_owned()))
}

/// The name of the layout of a directory's maps: its hash in hexadecimal digits.
pub fn name(directory: &Path) -> Result<String> {
    let found = found(directory)?;
    Ok(found.strip_prefix(MARK).map_or_else(|| found.clone(), str::to_owned))
}

fn own() -> String {
    format!("{MARK}{LAYOUT_VERSION:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_layout_is_named_with_what_to_do() {
        let directory = std::env::temp_dir().join(format!("lvs-layout-{}", std::process::id()));
        fs::create_dir_all(directory.join("layout-5")).unwrap();
        let sentence = check(&directory).unwrap_err().to_string();
        let name = name(&directory).unwrap();
        fs::create_dir(directory.join(own())).unwrap();
        let checked = check(&directory).is_ok();
        fs::remove_dir_all(&directory).unwrap();
        assert!(checked && sentence.contains("layout-5") && sentence.contains("`lvsadm unload`"), "{sentence}");
        assert_eq!(name, "5");
    }
}
