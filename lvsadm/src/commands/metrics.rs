//! `metrics`: what there is to count, for Prometheus.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::render::Format;
use crate::snapshot::Snapshot;

/// Writes metrics to standard output, or to a file that is replaced when the new one is whole.
pub fn metrics(output: Option<&Path>) -> Result<()> {
    let mut text = String::new();
    Snapshot::take()?.metrics(Format::Prometheus, &mut text)?;
    match output {
        Some(file) => replace(file, &text).with_context(|| format!("cannot write {}", file.display())),
        None => super::output::print(&text),
    }
}

/// Replaces a file: who reads it finds the old text or the new.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    let name = file.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let draft: PathBuf = file.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = File::create(&draft).and_then(|mut file| file.write_all(text.as_bytes()));
    written.and_then(|()| fs::rename(&draft, file)).inspect_err(|_| drop(fs::remove_file(&draft)))
}
