//! A page as plain text.

use super::draw::head;
use super::pages::table;
use super::state::State;

/// How wide the text is where nothing says so.
const WIDTH: usize = 80;

/// The page, of so many columns, with all its rows.
pub fn text(state: &State, width: usize) -> String {
    let mut text = String::new();
    let table = table(state);
    let rows = (0..table.count()).map(|at| table.row(at, width).text);
    let head = head(state, width).map(|row| row.text);
    for line in head.into_iter().chain([String::new(), table.titles(width)]).chain(rows) {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The width of the terminal, or what `COLUMNS` says.
pub fn width() -> usize {
    let said = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let asked = || ratatui::crossterm::terminal::size().ok().map(|(width, _)| width.into());
    said.or_else(asked).filter(|width| *width != 0).unwrap_or(WIDTH)
}
