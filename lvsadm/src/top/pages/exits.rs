//! How packets left the data plane: those that were dropped first.

use super::table::{Row, Table};
use crate::top::format::{left, short};
use crate::top::state::State;

/// Exits that packets have taken.
pub struct Exits(Vec<Exit>);

struct Exit {
    name: &'static str,
    meaning: &'static str,
    packets: u64,
    rate: f64,
}

impl Exit {
    fn is_drop(&self) -> bool {
        self.name.starts_with("drop-")
    }
}

impl Exits {
    /// Of what was read last.
    pub fn new(state: &State) -> Self {
        let exits = state.snapshot.iter().flat_map(|snapshot| &snapshot.exits).enumerate();
        let rate = |at| state.change.exits.get(at).copied().unwrap_or_default();
        let exit = |(at, (name, meaning, packets)): (usize, &(&'static str, &'static str, u64))| Exit {
            name,
            meaning,
            packets: *packets,
            rate: rate(at),
        };
        let mut exits: Vec<Exit> = exits.map(exit).filter(|exit| exit.packets != 0).collect();
        exits.sort_by(|a, b| b.is_drop().cmp(&a.is_drop()).then(b.rate.total_cmp(&a.rate)));
        Exits(exits)
    }
}

fn text(exit: &str, rate: &str, packets: &str, meaning: &str, width: usize) -> String {
    left(&format!("{exit:<22} {rate:>9} {packets:>14}  {meaning}"), width.saturating_sub(1))
}

impl Table for Exits {
    fn titles(&self, width: usize) -> String {
        format!(" {}", text("EXIT", "PACKETS/s", "PACKETS", "MEANING", width))
    }

    fn count(&self) -> usize {
        self.0.len()
    }

    fn row(&self, at: usize, width: usize) -> Row {
        let Some(exit) = self.0.get(at) else { return Row::new(false, "") };
        let text = text(exit.name, &short(exit.rate), &exit.packets.to_string(), exit.meaning, width);
        Row::new(exit.is_drop() && exit.rate > 0.0, &text)
    }
}
