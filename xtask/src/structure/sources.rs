//! The workspace's Rust files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Parsed files by their paths below the workspace's root.
pub type Sources = BTreeMap<PathBuf, syn::File>;

/// Reads and parses every Rust file below `root`, except what cargo built.
pub fn read(root: &Path) -> Result<Sources> {
    let mut sources = Sources::new();
    for entry in fs::read_dir(root).with_context(|| format!("cannot read {}", root.display()))? {
        let path = entry?.path();
        if path.join("Cargo.toml").is_file() {
            add_folder(root, &path, &mut sources)?;
        }
    }
    Ok(sources)
}

fn add_folder(root: &Path, folder: &Path, sources: &mut Sources) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            add_folder(root, &path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let name = path.strip_prefix(root).expect("it is below the root").to_owned();
            let file = syn::parse_file(&text).with_context(|| format!("cannot parse {}", name.display()))?;
            sources.insert(name, file);
        }
    }
    Ok(())
}

/// The crate that a file belongs to: its first folder.
pub fn crate_of(file: &Path) -> &str {
    file.iter().next().and_then(|folder| folder.to_str()).unwrap_or_default()
}
