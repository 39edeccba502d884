//! Writes the chapters, or checks that they are what would be written.

use std::fs;

use anyhow::{Context, Result, bail};

use super::chapters;
use crate::process::root;

/// `cargo xtask docs`.
pub fn write() -> Result<()> {
    for chapter in chapters::all(&root())? {
        let path = root().join(chapter.file);
        fs::create_dir_all(path.parent().expect("it is below the root"))?;
        fs::write(&path, chapter.text).with_context(|| format!("cannot write {}", chapter.file))?;
    }
    Ok(())
}

/// Fails if a chapter is not what the code says.
pub fn check() -> Result<()> {
    for chapter in chapters::all(&root())? {
        if fs::read_to_string(root().join(chapter.file)).unwrap_or_default() != chapter.text {
            bail!("{} is not what the code says: run `cargo xtask docs` and commit it", chapter.file);
        }
    }
    Ok(())
}
