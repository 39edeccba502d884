//! Drawing a page.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;

use super::format::{bar, bits, left, short, trend};
use super::pages::{Row, Table, table};
use super::state::{State, first};
use crate::grammar::subcommands::Page;
use lvs_common::health::FULL;

/// Lines above the rows, and one below them.
const ABOVE: u16 = 4;
const BELOW: u16 = 1;

/// Whether there are colours. Nothing is told by colour alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Palette {
    colours: bool,
}

impl Palette {
    /// With colours, unless `NO_COLOR` is set (no-color.org).
    pub fn of_environment() -> Self {
        Palette { colours: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
    }

    /// Without colours.
    #[cfg(test)]
    pub const PLAIN: Palette = Palette { colours: false };

    fn fault(self) -> Style {
        if self.colours { Style::new().fg(Color::Red) } else { Style::new() }
    }

    fn page(self) -> Style {
        let style = Style::new().add_modifier(Modifier::BOLD);
        if self.colours { style.fg(Color::Cyan) } else { style.add_modifier(Modifier::UNDERLINED) }
    }
}

/// The lines that every page begins with: what passes, and how full the connection tables are.
pub fn head(state: &State, width: usize) -> [Row; 2] {
    let Some(snapshot) = &state.snapshot else {
        return [Row::new(false, state.fault.as_deref().unwrap_or("reading")), Row::new(false, "")];
    };
    let total = &state.change.total;
    let passes = format!(
        "{} services  {} conn/s  in {} pkt/s {} bit/s  out {} pkt/s {} bit/s",
        snapshot.services.len(),
        short(total.conns),
        short(total.in_packets),
        bits(total.in_bytes),
        short(total.out_packets),
        bits(total.out_bytes),
    );
    let trend = trend(state.history.total(width.saturating_sub(passes.chars().count() + 4)));
    let dropped: f64 =
        snapshot.exits.iter().zip(&state.change.exits).filter(|(e, _)| e.0.starts_with("drop-")).map(|(_, r)| r).sum();
    let room = snapshot.defence.room.max(1);
    let percent = |held: u32| u64::from(held) * 100 / u64::from(room);
    let tables = snapshot.defence.held.map(|(family, held)| {
        let share = f64::from(held) / f64::from(room);
        format!("{} {} {} %", family.name(), bar(share, 10), percent(held))
    });
    let full = snapshot.defence.held.iter().any(|(_, held)| percent(*held) >= u64::from(FULL));
    let tables = match &state.fault {
        Some(fault) => format!("not read: {fault}"),
        None => format!("tables of {room}: {}  dropped {}/s", tables.join("  "), short(dropped)),
    };
    [
        Row::new(false, &left(&format!("{passes}  {trend}"), width.saturating_sub(1))),
        Row::new(full || state.fault.is_some() || dropped > 0.0, &left(&tables, width.saturating_sub(1))),
    ]
}

/// The line that says where one is.
fn pages(state: &State, palette: Palette) -> Line<'static> {
    let mut line = Line::default();
    for (number, page) in (1..).zip(Page::ALL) {
        let style = if page == state.page { palette.page() } else { Style::new() };
        line.push_span(ratatui::text::Span::styled(format!(" {number} {} ", page.name()), style));
    }
    line.push_span(format!("  sort: {}", state.order.name()));
    if state.typing || !state.filter.is_empty() {
        line.push_span(format!("  filter: {}{}", state.filter, if state.typing { "_" } else { "" }));
    }
    line
}

/// The keys.
fn keys(state: &State) -> &'static str {
    match state.page {
        _ if state.typing => " type a part of a name  Enter: done  Esc: without a filter",
        Page::Services => " q: quit  1-4, Tab: page  arrows: move  Enter: open  s: sort  /: filter  Esc: all",
        Page::Service => " q: quit  1-4, Tab: page  arrows: move  Esc: back",
        Page::Exits | Page::Floods => " q: quit  1-4, Tab: page  arrows, PgUp, PgDn: move",
    }
}

/// Draws the page.
pub fn draw(frame: &mut Frame<'_>, state: &mut State, palette: Palette) {
    let Rect { width, height, .. } = frame.area();
    let fitting = height.saturating_sub(ABOVE + BELOW);
    state.fitting = fitting.into();
    let columns = usize::from(width);
    let mut lines = Lines { frame, width, height, next: 0 };
    for row in head(state, columns) {
        lines.put(&row.text, if row.fault { palette.fault() } else { Style::new() });
    }
    lines.put_line(pages(state, palette));
    let table: Box<dyn Table + '_> = table(state);
    lines.put(&table.titles(columns), Style::new().add_modifier(Modifier::BOLD));
    let (rows, cursor) = (table.count(), state.cursor());
    let begin = first(cursor, rows, fitting.into());
    let marked = cursor.min(rows.saturating_sub(1));
    for at in begin..rows.min(begin + usize::from(fitting)) {
        let row = table.row(at, columns);
        let style = if row.fault { palette.fault() } else { Style::new() };
        lines.put(&row.text, if at == marked { style.add_modifier(Modifier::REVERSED) } else { style });
    }
    lines.next = height.saturating_sub(BELOW);
    lines.put(keys(state), Style::new().add_modifier(Modifier::DIM));
}

/// A frame that is written from top to bottom.
struct Lines<'a, 'f> {
    frame: &'a mut Frame<'f>,
    width: u16,
    height: u16,
    next: u16,
}

impl Lines<'_, '_> {
    fn put(&mut self, text: &str, style: Style) {
        self.put_line(Line::styled(text.to_owned(), style));
    }

    fn put_line(&mut self, line: Line<'_>) {
        if self.next < self.height {
            self.frame.render_widget(line, Rect::new(0, self.next, self.width, 1));
        }
        self.next += 1;
    }
}
