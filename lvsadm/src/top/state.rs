//! What is shown at the moment, and what a key changes about it.

use lvs_director::rules::{ServiceEntry, ServiceKey};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::history::History;
use crate::grammar::subcommands::{Order, Page};
use crate::snapshot::{Change, Key, Snapshot, select};

/// See the module.
#[derive(Debug, Default)]
pub struct State {
    /// What was read last.
    pub snapshot: Option<Snapshot>,
    /// What changed since the time before.
    pub change: Change,
    /// What changed before that.
    pub history: History,
    /// Why nothing newer could be read.
    pub fault: Option<String>,
    /// The page.
    pub page: Page,
    /// What services are ordered by.
    pub order: Order,
    /// What services must have in their name.
    pub filter: String,
    /// Whether keys are letters of the filter.
    pub typing: bool,
    /// Places of the services that are shown, in order.
    pub places: Vec<usize>,
    /// The service of the page of one.
    pub chosen: Option<ServiceKey>,
    /// The row that is marked, on each page.
    cursors: [usize; Page::ALL.len()],
    /// How many rows fit, as of the last drawing.
    pub fitting: usize,
}

/// What is to be done after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// To go on.
    Stay,
    /// To end.
    Quit,
}

impl State {
    /// What is shown first.
    pub fn new(page: Page, order: Order, filter: String) -> Self {
        State { page, order, filter, ..State::default() }
    }

    /// Takes in a snapshot, or why there is none.
    pub fn take(&mut self, read: Result<Snapshot, String>) {
        match read {
            Ok(snapshot) => {
                if let Some(before) = &self.snapshot {
                    self.change = Change::between(before, &snapshot);
                    self.history.push(&snapshot, &self.change);
                }
                self.snapshot = Some(snapshot);
                self.fault = None;
                self.choose();
            }
            Err(fault) => self.fault = Some(fault),
        }
    }

    /// The services that were read.
    pub fn services(&self) -> &[ServiceEntry] {
        self.snapshot.as_ref().map_or(&[], |snapshot| &snapshot.services)
    }

    /// The entry of the service that was chosen.
    pub fn chosen_entry(&self) -> Option<&ServiceEntry> {
        self.services().iter().find(|entry| Some(entry.service.key) == self.chosen)
    }

    /// The marked row of the page.
    pub fn cursor(&self) -> usize {
        self.cursors[self.page as usize]
    }

    /// Chooses the services that are shown.
    fn choose(&mut self) {
        let key = |entry: &ServiceEntry| {
            let rates = self.change.service(&entry.service.key);
            Key {
                conns: rates.conns,
                packets: rates.in_packets + rates.out_packets,
                bytes: rates.in_bytes + rates.out_bytes,
            }
        };
        self.places = select(self.services(), &self.filter, self.order, key);
    }

    /// Does what a key means, on a page of so many rows.
    pub fn press(&mut self, key: KeyEvent, rows: usize) -> After {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => return After::Quit,
            code if self.typing => self.write(code),
            KeyCode::Char('q') => return After::Quit,
            KeyCode::Esc | KeyCode::Backspace if self.page == Page::Service => self.page = Page::Services,
            KeyCode::Esc => {
                self.filter.clear();
                self.choose();
            }
            KeyCode::Tab => self.page = self.page.next(),
            KeyCode::Enter if self.page == Page::Services => {
                let entry = self.places.get(self.cursor()).and_then(|place| self.services().get(*place));
                self.chosen = entry.map(|entry| entry.service.key);
                self.page = Page::Service;
            }
            KeyCode::Char('/') => {
                (self.page, self.typing) = (Page::Services, true);
            }
            KeyCode::Char('s') => {
                self.order = self.order.next();
                self.choose();
            }
            KeyCode::Char(digit) if let Some(page) = Page::of_key(digit) => self.page = page,
            code => self.step(code, rows),
        }
        After::Stay
    }

    /// Changes the filter.
    fn write(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.filter.clear();
                self.typing = false;
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(letter) => self.filter.push(letter),
            _ => {}
        }
        self.cursors[Page::Services as usize] = 0;
        self.choose();
    }

    /// Moves the marked row.
    fn step(&mut self, code: KeyCode, rows: usize) {
        let (last, page) = (rows.saturating_sub(1), self.fitting.max(1));
        let cursor = &mut self.cursors[self.page as usize];
        let at = (*cursor).min(last);
        *cursor = match code {
            KeyCode::Up | KeyCode::Char('k') => at.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => (at + 1).min(last),
            KeyCode::PageUp => at.saturating_sub(page),
            KeyCode::PageDown => (at + page).min(last),
            KeyCode::Home => 0,
            KeyCode::End => last,
            _ => at,
        };
    }
}

/// The first row that is shown, so that the marked one is among those that fit.
pub fn first(cursor: usize, rows: usize, fitting: usize) -> usize {
    let cursor = cursor.min(rows.saturating_sub(1));
    // Whole pages: rows stay where they are while the mark moves within one.
    let first = if fitting == 0 { cursor } else { cursor - cursor % fitting };
    first.min(rows.saturating_sub(fitting))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marked_row_is_always_shown() {
        for rows in 0..40 {
            for fitting in 1..12 {
                for cursor in 0..45 {
                    let first = first(cursor, rows, fitting);
                    let marked = cursor.min(rows.saturating_sub(1));
                    assert!((first..first + fitting).contains(&marked), "{cursor} of {rows}, {fitting}: {first}");
                    assert!(rows < fitting || first + fitting <= rows);
                }
            }
        }
    }

    #[test]
    fn keys_lead_where_they_say() {
        let mut state = State { fitting: 10, ..State::default() };
        let press = |state: &mut State, code| state.press(KeyEvent::from(code), 25);
        for (code, row) in [
            (KeyCode::Down, 1),
            (KeyCode::PageDown, 11),
            (KeyCode::PageDown, 21),
            (KeyCode::PageDown, 24),
            (KeyCode::Up, 23),
            (KeyCode::End, 24),
            (KeyCode::Down, 24),
            (KeyCode::Home, 0),
            (KeyCode::Up, 0),
        ] {
            press(&mut state, code);
            assert_eq!(state.cursor(), row, "{code:?}");
        }
        press(&mut state, KeyCode::Char('3'));
        assert_eq!(state.page, Page::Exits);
        press(&mut state, KeyCode::Tab);
        assert_eq!(state.page, Page::Floods);
        press(&mut state, KeyCode::Char('/'));
        for letter in "q1s".chars() {
            press(&mut state, KeyCode::Char(letter));
        }
        press(&mut state, KeyCode::Backspace);
        assert_eq!((state.page, &*state.filter, state.order), (Page::Services, "q1", Order::Service));
        press(&mut state, KeyCode::Enter);
        press(&mut state, KeyCode::Char('s'));
        assert_eq!((&*state.filter, state.order), ("q1", Order::Connections));
        press(&mut state, KeyCode::Esc);
        assert_eq!(state.filter, "");
        assert_eq!(press(&mut state, KeyCode::Char('q')), After::Quit);
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(state.press(interrupt, 0), After::Quit);
    }
}
