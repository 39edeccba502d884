//! How full the tables are, what is done against floods, and what the synchronisation daemons do.

use super::table::{Row, Table};
use crate::render::{REFUSED, evictions};
use crate::snapshot::Snapshot;
use crate::top::format::{bar, left, short};
use crate::top::state::State;

/// Lines of a name, a value and a picture.
pub struct Floods(Vec<Row>);

/// Share of a table from which on it is a fault that it is so full.
const FULL: f64 = lvs_common::health::FULL as f64 / 100.0;
/// Exits that tell of floods.
const EXITS: [(&str, &str); 5] = [
    ("challenged", "requests challenged"),
    ("verified", "sources verified"),
    ("drop-unverified", "dropped, not verified"),
    ("drop-blocked", "dropped, blocked"),
    ("drop-defence", "dropped by drop_packet"),
];

impl Floods {
    /// Of what was read last.
    pub fn new(state: &State) -> Self {
        let Some(snapshot) = &state.snapshot else { return Floods(Vec::new()) };
        let mut rows = tables(snapshot);
        rows.extend(defence(state, snapshot));
        rows.extend(synchronisation(snapshot));
        Floods(rows)
    }
}

fn row(fault: bool, name: &str, value: &str) -> Row {
    Row::new(fault, format!("{name:<32} {value}").trim_end())
}

fn fill(name: &str, held: u64, room: u64) -> Row {
    let share = held as f64 / room.max(1) as f64;
    row(share >= FULL, name, &format!("{} {:>3.0} %  {held} of {room}", bar(share, 20), share * 100.0))
}

fn tables(snapshot: &Snapshot) -> Vec<Row> {
    let defence = &snapshot.defence;
    let held = defence
        .held
        .iter()
        .map(|(family, held)| fill(&format!("connections, {}", family.name()), (*held).into(), defence.room.into()));
    let mut rows: Vec<Row> = held.collect();
    let (waiting, cells) = snapshot.fragments;
    rows.push(fill("fragments that wait", waiting.into(), cells.into()));
    for (kind, family, clients) in snapshot.lists.iter().filter(|(.., clients)| *clients != 0) {
        rows.push(row(false, &format!("clients on {} lists, {}", kind.name(), family.name()), &clients.to_string()));
    }
    rows
}

fn defence(state: &State, snapshot: &Snapshot) -> Vec<Row> {
    let defence = &snapshot.defence;
    let modes = defence.modes.iter().map(|(name, mode)| row(*mode == "working", name, mode));
    let mut rows: Vec<Row> = modes.collect();
    let dropped = match defence.drop_rate {
        0 => "none".to_owned(),
        rate => format!("one in {rate}"),
    };
    rows.push(row(defence.drop_rate != 0, "new connections dropped", &dropped));
    rows.push(row(false, "connections taken out", &defence.taken_out.to_string()));
    for (exit, name) in EXITS {
        let Some(at) = snapshot.exits.iter().position(|(other, ..)| *other == exit) else { continue };
        let rate = state.change.exits.get(at).copied().unwrap_or_default();
        rows.push(row(false, name, &format!("{}, {} a second", snapshot.exits[at].2, short(rate))));
    }
    let counts = || snapshot.exits.iter().map(|(exit, _, packets)| (*exit, *packets));
    let given: u64 = evictions(counts()).map(|(_, count)| count).sum();
    let refused: u64 = counts().filter(|(exit, _)| *exit == REFUSED).map(|(_, packets)| packets).sum();
    rows.push(row(false, "gave way in a full table", &given.to_string()));
    rows.push(row(refused != 0, "refused by a full table", &refused.to_string()));
    rows
}

fn synchronisation(snapshot: &Snapshot) -> Vec<Row> {
    let daemons = snapshot.daemons.iter().map(|daemon| row(false, "synchronisation", &daemon.to_string()));
    let mut rows: Vec<Row> = daemons.collect();
    let sync = &snapshot.sync;
    let counted = [("lost", sync.lost), ("waiting", sync.waiting)].into_iter();
    let counted = counted.chain(sync.counters.rows().map(|(name, _, _, value)| (name, value)));
    for (name, value) in counted.filter(|(_, value)| *value != 0) {
        rows.push(row(name == "lost", &format!("synchronisation, {}", name.replace('_', " ")), &value.to_string()));
    }
    rows
}

impl Table for Floods {
    fn titles(&self, width: usize) -> String {
        left(" TABLES, FLOODS, SYNCHRONISATION", width)
    }

    fn count(&self) -> usize {
        self.0.len()
    }

    fn row(&self, at: usize, width: usize) -> Row {
        let row = self.0.get(at).cloned().unwrap_or_else(|| Row::new(false, ""));
        Row { text: left(&row.text, width), ..row }
    }
}
