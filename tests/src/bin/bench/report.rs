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

/// A table whose rows have a figure for each of the columns.
pub struct Grid<'a> {
    report: &'a mut Report,
    section: &'static str,
    columns: &'a [String],
    unit: &'static str,
}

impl Grid<'_> {
    /// Adds a row's figures and prints its line.
    pub fn row(&mut self, name: &str, values: &[f64]) {
        let cells: String = values.iter().map(|value| format!("{value:>16.1}")).collect();
        println!("  {name:<20}{cells}");
        for (column, value) in self.columns.iter().zip(values) {
            let (section, name, unit) = (self.section, format!("{name}, {column}"), self.unit);
            self.report.figures.push(Figure { section, name, value: *value, unit, ratio: None });
        }
    }
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

    /// Starts a section that is a table with these columns.
    pub fn grid<'a>(
        &'a mut self,
        section: &'static str,
        title: &str,
        columns: &'a [String],
        unit: &'static str,
    ) -> Grid<'a> {
        let heads: String = columns.iter().map(|column| format!("{column:>16}")).collect();
        println!("\n{title}\n  {:<20}{heads}", "");
        Grid { report: self, section, columns, unit }
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
