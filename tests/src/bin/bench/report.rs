//! What was measured, as a table and as JSON.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::wrapper::median;

/// A figure.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Figure {
    /// Which part it is of.
    pub section: String,
    /// What it is of, in its section.
    pub name: String,
    /// The figure, a median.
    pub value: f64,
    /// `ns`, `k/s` and the like.
    pub unit: String,
    /// The same in terms of the section's reference.
    pub ratio: Option<f64>,
    /// Half of what lies between the quartiles of its rounds, as a part of the figure.
    #[serde(default)]
    pub spread: Option<f64>,
}

/// The median of several rounds, and how far they lie apart.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// Half of what lies between the quartiles, as a part of the median; of fewer than [`ROUNDS`] there is none.
    pub spread: Option<f64>,
}

/// Rounds that say something of how far rounds lie apart.
const ROUNDS: usize = 3;

impl Spread {
    /// Of rounds, which are sorted.
    pub fn of(rounds: &mut [f64]) -> Self {
        let median = median(rounds);
        let quartiles = (rounds.len() >= ROUNDS).then(|| (rounds[rounds.len() / 4], rounds[rounds.len() * 3 / 4]));
        Spread { median, spread: quartiles.map(|(low, high)| (high - low) / 2.0 / median) }
    }
}

/// All of them.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Report {
    /// In the order in which they were measured.
    pub figures: Vec<Figure>,
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
        self.print(name, values.iter().map(|value| format!("{value:>16.1}")));
        self.keep(name, values.iter().map(|value| (*value, None)));
    }

    /// The same with the spread of each.
    pub fn spread_row(&mut self, name: &str, values: &[Spread]) {
        self.print(name, values.iter().map(|s| format!("{:>10.1} {:>5}", s.median, percent(s.spread))));
        self.keep(name, values.iter().map(|s| (s.median, s.spread)));
    }

    fn print(&self, name: &str, cells: impl Iterator<Item = String>) {
        println!("  {name:<20}{}", cells.collect::<String>());
    }

    fn keep(&mut self, name: &str, values: impl Iterator<Item = (f64, Option<f64>)>) {
        for (column, (value, spread)) in self.columns.iter().zip(values) {
            let (section, name, unit) = (self.section.to_owned(), format!("{name}, {column}"), self.unit.to_owned());
            self.report.figures.push(Figure { section, name, value, unit, ratio: None, spread });
        }
    }
}

/// A spread as it is printed.
fn percent(spread: Option<f64>) -> String {
    spread.map_or(String::new(), |spread| format!("±{:.0} %", spread * 100.0))
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
        self.put(section, name.into(), value, unit, ratio, None);
    }

    /// The same with its spread.
    pub fn add_spread(
        &mut self,
        section: &'static str,
        name: impl Into<String>,
        value: Spread,
        unit: &'static str,
        ratio: Option<f64>,
    ) {
        self.put(section, name.into(), value.median, unit, ratio, value.spread);
    }

    fn put(
        &mut self,
        section: &'static str,
        name: String,
        value: f64,
        unit: &'static str,
        ratio: Option<f64>,
        spread: Option<f64>,
    ) {
        let ratio_text = ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
        println!("  {name:<44}{value:>14.2} {unit:<14}{ratio_text:>12}{:>8}", percent(spread));
        self.figures.push(Figure { section: section.to_owned(), name, value, unit: unit.to_owned(), ratio, spread });
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

    /// Reads those of an earlier run.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is no file of figures", path.display()))
    }
}
