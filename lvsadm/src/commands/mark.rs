//! `mark`: classification rules.

use anyhow::{Result, bail};

use crate::grammar::subcommands::MarkAction;
use crate::render;
use lvs_director::dataplane::{self, PlaneDirector};
use lvs_director::director::{Access, Director, Room};
use lvs_director::rules::{Mark, MarkChange};

/// Changes the rules, or shows them.
pub fn mark(action: &MarkAction) -> Result<()> {
    match (action.change()?, action) {
        (Some(change), _) => make(change),
        (None, MarkAction::List { json: true }) => list(render::json::marks),
        (None, _) => list(render::marks),
    }
}

/// Makes a change.
fn make(change: MarkChange) -> Result<()> {
    let mut director = match change {
        MarkChange::Add(_) => super::open::open(Access::Change, Room::default())?,
        // Nothing is loaded only to be empty.
        MarkChange::Delete(_) | MarkChange::Flush => match dataplane::open(Access::Change)? {
            Some(plane) => PlaneDirector::new(plane),
            None if change == MarkChange::Flush => return Ok(()),
            None => bail!("there is no rule about that traffic"),
        },
    };
    let mut marks = director.marks()?;
    let there = |traffic| marks.iter().find(|mark| mark.traffic == traffic);
    match change {
        MarkChange::Add(mark) => {
            if let Some(other) = there(mark.traffic) {
                bail!("there is a rule about that traffic already, which gives it mark {}", other.mark);
            }
        }
        MarkChange::Delete(traffic) if there(traffic).is_none() => bail!("there is no rule about that traffic"),
        MarkChange::Delete(_) | MarkChange::Flush => {}
    }
    change.apply(&mut marks);
    Ok(director.set_marks(&marks)?)
}

/// Prints the rules.
fn list(render: fn(&[Mark]) -> String) -> Result<()> {
    super::output::print(&render(&marks()?))
}

/// The rules, as `mark list --json` prints them.
pub fn json() -> Result<String> {
    Ok(render::json::marks(&marks()?))
}

fn marks() -> Result<Vec<Mark>> {
    Ok(match dataplane::open(Access::Read)? {
        Some(plane) => PlaneDirector::new(plane).marks()?,
        None => Vec::new(),
    })
}
