//! Which maps two generations share.

use std::fs;
use std::path::Path;

use aya::maps::MapData;
use aya_obj::{Map, Object};

use super::super::error::{Context, Error, Result, unfit};
use super::super::link;
use crate::objects::DIRECTOR;

/// The connection tables, and what refers to their entries by number.
const TABLES: [&str; 7] = ["BUCKETS4", "BUCKETS6", "CONNS4", "CONNS6", "ENGINES", "RESETS4", "RESETS6"];

/// What each generation has for itself: program arrays, the timer's clock, and what is needed while a program runs.
const OWN: [&str; 18] = [
    "XDP_PROGRAMS",
    "TC_PROGRAMS",
    "CLOCK",
    "DRAFTS4",
    "DRAFTS6",
    "MOVING4",
    "MOVING6",
    "MOVED",
    "REQUESTS",
    "PARSED4",
    "PARSED6",
    "FIBS",
    "ROUTES",
    "ICMP_ERRORS4",
    "ICMP_ERRORS6",
    "MATCHES",
    "LINES",
    "SCRATCH",
];

/// Counters of packets by exit.
const EXITS: &str = "EXITS";

/// Maps that no program has, only `lvsadm`.
const WITHOUT_PROGRAM: [&str; 2] = ["IDLE", "SECRETS"];

/// Pins the maps that both generations share in the directory of the next one, and names those that programs have.
pub fn share(old: &Path, next: &Path, with_tables: bool) -> Result<Vec<String>> {
    if DIRECTOR.is_empty() {
        return Err(Error::NotBuilt);
    }
    let object = Object::parse(DIRECTOR).ok().context("the data plane's object is no object")?;
    let is_shared = |name: &&String| {
        let is_own = name.starts_with('.') || OWN.contains(&&***name) || !with_tables && TABLES.contains(&&***name);
        !is_own && old.join(name).exists()
    };
    let shared: Vec<String> = object.maps.keys().filter(is_shared).cloned().collect();
    for name in &shared {
        check(&old.join(name), name, &object.maps[name])?;
    }
    for name in shared.iter().map(String::as_str).chain(WITHOUT_PROGRAM) {
        link::pin_again(&old.join(name), &next.join(name)).with_context(|| format!("cannot share map {name}"))?;
    }
    Ok(shared)
}

/// Refuses to share a map that this build has in another form.
fn check(pin: &Path, name: &str, wanted: &Map) -> Result<()> {
    let context = || format!("cannot open map {name}");
    let info = MapData::from_pin(pin).with_context(context)?.info().with_context(context)?;
    let kind = info.map_type().with_context(context)? as u32;
    let is_same = (kind, info.key_size(), info.value_size()) == (wanted.map_type(), wanted.key_size(), wanted.value_size())
        // The number of exits is the build's, not the data plane's.
        && (name != EXITS || info.max_entries() == wanted.max_entries());
    if is_same {
        return Ok(());
    }
    unfit(format!(
        "map {name} of the data plane has another form than this lvsadm's: save the rules with `lvsadm save --full`, \
         `lvsadm unload`, and `lvsadm apply` them"
    ))
}

/// Notes about devices, which are directories: copies them.
pub fn copy_notes(old: &Path, next: &Path) -> Result<()> {
    let context = "cannot copy the notes about devices";
    for note in fs::read_dir(old).context(context)? {
        let note = note.context(context)?;
        if note.file_type().context(context)?.is_dir() {
            let copy = next.join(note.file_name());
            fs::create_dir_all(&copy).context(context)?;
            copy_notes(&note.path(), &copy)?;
        }
    }
    Ok(())
}
