//! The layout of the pinned maps, marked when they are pinned and checked when they are opened.

use std::fs;
use std::path::Path;

use lvs_common::abi::LAYOUT_VERSION;

use super::error::{Context, Error, Result};

/// How the name of the mark begins; the version follows.
const MARK: &str = "layout-";

/// Marks a directory of pinned maps with the layout of this build.
pub fn mark(directory: &Path) -> Result<()> {
    fs::create_dir(directory.join(own())).context("cannot mark the layout")
}

/// Refuses a directory of pinned maps that another build laid out: none of their bytes would mean what this build takes them
/// for.
pub fn check(directory: &Path) -> Result<()> {
    if directory.join(own()).exists() {
        return Ok(());
    }
    let names = fs::read_dir(directory).context("cannot look into the directory of pins")?;
    let mut names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let found = names.find(|name| name.starts_with(MARK)).unwrap_or_else(|| "of no known layout".to_owned());
    Err(Error::Layout { found, ours: own() })
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
        mark(&directory).unwrap();
        let checked = check(&directory).is_ok();
        fs::remove_dir_all(&directory).unwrap();
        assert!(checked && sentence.contains("layout-5") && sentence.contains("`lvsadm unload`"), "{sentence}");
    }
}
