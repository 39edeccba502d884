//! Running: once, or until a key ends it.

use std::io::{self, IsTerminal};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, sleep};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};

use super::draw::{Palette, draw};
use super::once;
use super::pages::table;
use super::state::{After, State};
use crate::grammar::subcommands::TopArgs;
use crate::snapshot::Snapshot;

/// How long keys are waited for before what was read meanwhile is shown.
const PATIENCE: Duration = Duration::from_millis(100);

/// Shows the director. The text of a page, if it is to be printed once.
pub fn run(arguments: &TopArgs) -> Result<Option<String>> {
    let mut state = State::new(arguments.page, arguments.sort, arguments.filter.clone());
    // What cannot be read at all is told before the terminal is changed.
    state.take(Ok(Snapshot::take()?));
    if arguments.once {
        sleep(arguments.pause());
        state.take(Ok(Snapshot::take()?));
        return Ok(Some(once::text(&state, once::width())));
    }
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        bail!("there is no terminal: `lvsadm top --once` prints a page as text");
    }
    let mut terminal = ratatui::try_init().context("cannot draw in this terminal")?;
    let shown = show(&mut terminal, &mut state, &snapshots(arguments.pause()));
    ratatui::restore();
    shown.map(|()| None)
}

/// Snapshots that another thread takes: keys do not wait for it.
fn snapshots(pause: Duration) -> Receiver<Result<Snapshot, String>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        loop {
            sleep(pause);
            let read = Snapshot::take().map_err(|error| format!("{error:#}"));
            if sender.send(read).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Draws whenever there is something new, until a key ends it.
fn show(
    terminal: &mut DefaultTerminal,
    state: &mut State,
    snapshots: &Receiver<Result<Snapshot, String>>,
) -> Result<()> {
    let palette = Palette::of_environment();
    let mut is_new = true;
    loop {
        if is_new {
            terminal.draw(|frame| draw(frame, state, palette)).context("cannot draw")?;
        }
        is_new = false;
        while event::poll(if is_new { Duration::ZERO } else { PATIENCE }).context("cannot read keys")? {
            match event::read().context("cannot read keys")? {
                Event::Key(key) if key.kind != KeyEventKind::Release => {
                    let rows = table(state).count();
                    if state.press(key, rows) == After::Quit {
                        return Ok(());
                    }
                    is_new = true;
                }
                Event::Resize(..) => is_new = true,
                _ => {}
            }
        }
        for read in snapshots.try_iter() {
            state.take(read);
            is_new = true;
        }
    }
}
