//! What was measured, as a table and as JSON.

use std::fs;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

/// A figure.
#[derive(Serialize)]
pub struct Figure {
    section: &'static str,
    name: String,
    value: f64,
    unit: &'static str,
    /// The same in terms of the section's reference.
    ratio: Option<f64>,
}

/// All of them.
#[derive(Default, Serialize)]
pub struct Report {
    figures: Vec<Figure>,
}

impl Report {
    /// Starts a section.
    pub fn section(&self, name: &str, reference: &str) {
        println!("\n{name:58}{reference:>30}");
    }

    /// Adds a figure and prints its line.
    pub fn add(
        &mut self,
        section: &'static str,
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
        ratio: Option<f64>,
    ) {
        let name = name.into();
        let ratio_text = ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
        println!("  {name:<44}{value:>14.2} {unit:<14}{ratio_text:>12}");
        self.figures.push(Figure { section, name, value, unit, ratio });
    }

    /// Writes them to a file.
    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, serde_json::to_string_pretty(self)? + "\n")?;
        println!("\nwritten to {}", path.display());
        Ok(())
    }
}
