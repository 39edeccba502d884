//! Which maps two generations share, and which ones the next generation has for itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use aya::maps::MapData;
use aya_obj::{Map, Object};

use super::super::error::{Context, Error, Result};
use super::super::layout::Layouts;
use super::super::link;
use super::super::sizes::Sizes;
use crate::objects::DIRECTOR;

/// The connection tables, and what refers to their entries by number.
pub const TABLES: [&str; 7] = ["BUCKETS4", "BUCKETS6", "CONNS4", "CONNS6", "ENGINES", "RESETS4", "RESETS6"];

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

/// What is copied into maps of another form, element by element: see `convert`.
const CONVERTIBLE: [&str; 18] = [
    "SETTINGS",
    "SERVICES",
    "SERVICE_RATES",
    "SERVICE4",
    "SERVICE6",
    "FWMARKS",
    "DESTS",
    "DEST_RATES",
    COUNTERS,
    "MARKS",
    "LISTS4",
    "LISTS6",
    "LOCALS",
    "DEVICES",
    "VLANS",
    "SYNC",
    "WATCH",
    IDLE,
];

/// What is remembered for a while, and is learnt again. In another form it begins anew. Each row is of one kind.
const MEMORIES: [(&str, &[&str]); 9] = [
    ("what lblc and lblcr remember", &["LOCALITY"]),
    ("sources that have answered a challenge", &["VERIFIED"]),
    ("fragments that wait for others", &["DATAGRAMS", "HELD", "CELLS", "RINGS"]),
    ("path MTUs", &["PATHS"]),
    ("limits of ICMP errors", &["ICMP_TOKENS", "ICMP_RECEIVERS"]),
    ("neighbours that were confirmed", &["CONFIRMED"]),
    ("the turn of drop_packet", &["ARRIVALS"]),
    ("connections that backups have not been told of", &["ANNOUNCEMENTS"]),
    ("connections that are being entered", &["INCOMING"]),
];

/// Counters of destinations.
pub const COUNTERS: &str = "COUNTERS";
/// Counters of packets by exit.
pub const EXITS: &str = "EXITS";

/// Maps that no program has, only `lvsadm`.
const SECRETS: &str = "SECRETS";
/// See [`SECRETS`].
pub const IDLE: &str = "IDLE";

/// What the sizes of services and of destinations decide.
const OF_SERVICES: [&str; 6] = ["SERVICES", "SERVICE_RATES", "SERVICE4", "SERVICE6", "FWMARKS", "TABLES"];
/// See [`OF_SERVICES`].
const OF_DESTINATIONS: [&str; 5] = ["DESTS", "DEST_RATES", COUNTERS, "ROSTERS", IDLE];

/// What is to be done with each map that the generation before has, too.
#[derive(Debug, Default)]
pub struct Division {
    /// Both generations have these.
    pub shared: Vec<String>,
    /// The next one has its own, with what the other's holds.
    pub converted: Vec<String>,
    /// What begins anew, for people.
    pub forgotten: Vec<&'static str>,
}

/// Which maps of another size the next generation has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resized {
    pub connections: bool,
    pub services: bool,
    pub destinations: bool,
}

impl Resized {
    /// What differs between two sizes.
    pub fn between(old: &Sizes, new: &Sizes) -> Self {
        Resized {
            connections: old.connections != new.connections,
            services: old.services != new.services,
            destinations: old.destinations != new.destinations,
        }
    }

    fn concerns(self, name: &str) -> bool {
        self.services && OF_SERVICES.contains(&name) || self.destinations && OF_DESTINATIONS.contains(&name)
    }
}

impl Division {
    /// Divides the maps of the generation in `old`.
    pub fn of(old: &Path, layouts: &Layouts, resized: Resized) -> Result<Self> {
        if DIRECTOR.is_empty() {
            return Err(Error::NotBuilt);
        }
        let object = Object::parse(DIRECTOR).ok().context("the data plane's object is no object")?;
        let maps: BTreeMap<&str, &Map> = object.maps.iter().map(|(name, map)| (&**name, map)).collect();
        let is_same = |name: &str| -> Result<bool> {
            Ok(maps.get(name).map_or(Ok(true), |map| has_form(&old.join(name), name, map))? && is_alike(layouts, name))
        };
        let mut same = BTreeMap::new();
        let inherited = maps.keys().copied().chain([IDLE, SECRETS]);
        for name in inherited.filter(|name| !name.starts_with('.') && !OWN.contains(name)) {
            if old.join(name).exists() {
                same.insert(name, is_same(name)?);
            }
        }
        if same.get("ENGINES") == Some(&false) {
            return Err(Error::TooForeign { why: "its map ENGINES has another form".to_owned() });
        }
        let with_tables = !resized.connections && TABLES.iter().all(|name| same.get(name).copied().unwrap_or_default());
        let mut division = Division::default();
        let mut forgotten = [false; MEMORIES.len()];
        for (name, is_same) in same {
            let is_kept = is_same && !resized.concerns(name);
            let memory = MEMORIES.iter().position(|(_, maps)| maps.contains(&name));
            if TABLES.contains(&name) {
                // Connections move from one to the other, or they stay.
                division.shared.extend(with_tables.then(|| name.to_owned()));
            } else if is_kept {
                division.shared.push(name.to_owned());
            } else if CONVERTIBLE.contains(&name) || name == EXITS || is_same && resized.concerns(name) {
                division.converted.push(name.to_owned());
            } else if let Some(memory) = memory {
                forgotten[memory] = true;
            } else {
                return Err(Error::TooForeign { why: format!("its map {name} has another form") });
            }
        }
        for ((what, maps), _) in MEMORIES.iter().zip(forgotten).filter(|(_, is_forgotten)| *is_forgotten) {
            // Whatever of it is alike means nothing without the rest.
            division.shared.retain(|name| !maps.contains(&&**name));
            division.forgotten.push(what);
        }
        Ok(division)
    }

    /// Pins the maps that both generations share in the directory of the next one, and names those that programs have.
    pub fn share(&self, old: &Path, next: &Path) -> Result<Vec<String>> {
        for name in &self.shared {
            link::pin_again(&old.join(name), &next.join(name)).with_context(|| format!("cannot share map {name}"))?;
        }
        Ok(self.shared.iter().filter(|name| *name != IDLE && *name != SECRETS).cloned().collect())
    }
}

/// Whether a map has the form that this build's has.
fn has_form(pin: &Path, name: &str, wanted: &Map) -> Result<bool> {
    let context = || format!("cannot open map {name}");
    let info = MapData::from_pin(pin).with_context(context)?.info().with_context(context)?;
    let kind = info.map_type().with_context(context)? as u32;
    Ok((kind, info.key_size(), info.value_size()) == (wanted.map_type(), wanted.key_size(), wanted.value_size())
        // The number of exits is the build's, not the data plane's.
        && (name != EXITS || info.max_entries() == wanted.max_entries()))
}

/// Whether what a map holds means the same in both layouts.
fn is_alike(layouts: &Layouts, name: &str) -> bool {
    let Layouts { from, own } = layouts;
    let is_same_type = |it: &Option<String>| it.as_ref().is_none_or(|name| from.has_the_same(own, name));
    match own.maps.get(name) {
        _ if name == EXITS => from.exits == own.exits,
        Some(held) => {
            let counts_alike = name != COUNTERS || from.counters == own.counters;
            from.maps.get(name) == Some(held) && is_same_type(&held.key) && is_same_type(&held.value) && counts_alike
        }
        None => true,
    }
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
