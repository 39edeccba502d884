//! `block` and `allow`: who may come in.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use crate::grammar::subcommands::{AccessAction, AccessArgs};
use crate::names::SystemNames;
use crate::render::{self, AccessLists};
use lvs_director::dataplane::{self, PlaneDirector};
use lvs_director::director::{self, Access, Director, Operation, Room, Wanted};
use lvs_director::rules::{AccessChange, AccessKind, ServiceKey, access_file};

/// Changes a list, or shows lists.
pub fn access(kind: AccessKind, arguments: &AccessArgs) -> Result<()> {
    let service = arguments.service.key(&mut SystemNames::default())?;
    match arguments.action() {
        AccessAction::List { json } => list(kind, service, json),
        AccessAction::Change(change) => make(kind, service, &change),
        AccessAction::File(file) => make(kind, service, &AccessChange::Replace(read(&file)?)),
        AccessAction::FlushAll => flush(kind),
    }
}

/// Makes a change.
fn make(kind: AccessKind, service: Option<ServiceKey>, change: &AccessChange) -> Result<()> {
    let mut director = match change {
        AccessChange::Add(_) => super::open::open(Access::Change, Room::default())?,
        AccessChange::Replace(rules) if !rules.is_empty() => super::open::open(Access::Change, Room::default())?,
        // Nothing is loaded only to be empty.
        AccessChange::Delete(_) | AccessChange::Replace(_) => match (dataplane::open(Access::Change)?, change) {
            (Some(plane), _) => PlaneDirector::new(plane),
            (None, AccessChange::Replace(_)) => return Ok(()),
            (None, _) => bail!("nothing is loaded in this network namespace: no list has an entry"),
        },
    };
    director.edit_access(kind, service.as_ref(), change).map_err(failed)
}

/// Empties every list of a kind.
fn flush(kind: AccessKind) -> Result<()> {
    let Some(plane) = dataplane::open(Access::Change)? else { return Ok(()) };
    let mut director = PlaneDirector::new(plane);
    director.begin()?;
    let empty = AccessChange::Replace(Vec::new());
    let emptied = services(&director)?.into_iter().try_for_each(|service| {
        let has_entries = !director.access(kind, service.as_ref())?.is_empty();
        if has_entries { director.edit_access(kind, service.as_ref(), &empty) } else { Ok(()) }
    });
    if emptied.is_err() {
        director.abort()?;
    }
    emptied.and_then(|()| director.commit()).map_err(failed)
}

/// What has lists: all services together, and each.
fn services(director: &PlaneDirector) -> Result<Vec<Option<ServiceKey>>> {
    let entries = director.services(Wanted::default())?;
    Ok(std::iter::once(None).chain(entries.into_iter().map(|entry| Some(entry.service.key))).collect())
}

/// Shows lists: a service's, or all that have entries.
fn list(kind: AccessKind, service: Option<ServiceKey>, json: bool) -> Result<()> {
    let lists = lists(kind, service)?;
    super::output::print(&if json { render::json::access(kind, &lists) } else { render::access(kind, &lists) })
}

/// All lists of a kind, as `--json` prints them.
pub fn json(kind: AccessKind) -> Result<String> {
    Ok(render::json::access(kind, &lists(kind, None)?))
}

fn lists(kind: AccessKind, service: Option<ServiceKey>) -> Result<AccessLists> {
    Ok(match (dataplane::open(Access::Read)?, service) {
        (None, None) => AccessLists::default(),
        (None, Some(_)) => return Err(failed(director::Error::NoService)),
        (Some(plane), service) => {
            let director = PlaneDirector::new(plane);
            let wanted = service.map_or_else(|| services(&director), |service| Ok(vec![Some(service)]))?;
            let lists = wanted.into_iter().map(|service| Ok((service, director.access(kind, service.as_ref())?)));
            lists.collect::<director::Result<_>>().map_err(failed)?
        }
    })
}

/// Reads a file of clients. The error has all its mistakes, a line for each.
fn read(file: &Path) -> Result<Vec<lvs_director::rules::AccessRule>> {
    let (name, text) = if file == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        (PathBuf::from("<stdin>"), text)
    } else {
        (file.to_owned(), fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?)
    };
    access_file(&text).or_else(|mistakes| {
        for (line, error) in mistakes {
            eprintln!("{}:{line}: {error}", name.display());
        }
        bail!("nothing is changed")
    })
}

fn failed(error: director::Error) -> anyhow::Error {
    anyhow!(error.text(Operation::GetService).into_owned())
}
