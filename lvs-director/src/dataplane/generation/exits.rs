//! Counters of packets by exit, where two generations do not number their exits alike.

use std::path::Path;

use aya::maps::{Map, MapData, PerCpuArray, PerCpuValues};
use lvs_common::exit;

use super::super::error::{Context, Result};
use super::super::layout::Layouts;
use super::super::mapped::Mapped;
use super::maps::EXITS;

/// The counters of both generations.
pub struct Exits {
    old: PerCpuArray<MapData, u64>,
    next: PerCpuArray<MapData, u64>,
    /// What was brought of each exit of the generation before.
    seen: Mapped<u64>,
    /// Numbers of the exits that both have, in the generation before and in the next one.
    numbers: Vec<(u32, u32)>,
}

impl Exits {
    /// Of two generations' directories, if the next one has the map `seen`.
    pub fn open(old: &Path, next: &Path, seen: &str, layouts: &Layouts) -> Result<Option<Self>> {
        let seen = next.join(seen);
        if !seen.exists() {
            return Ok(None);
        }
        let open = |directory: &Path| -> Result<PerCpuArray<MapData, u64>> {
            let map = MapData::from_pin(directory.join(EXITS)).context("cannot open map EXITS")?;
            Ok(PerCpuArray::try_from(Map::from_map_data(map)?)?)
        };
        let seen = Mapped::open(&seen)?;
        let own = |name: &String| exit::EXITS.iter().position(|(own, _)| own == name);
        let numbers = (0..seen.count()).zip(&layouts.from.exits);
        let numbers = numbers.filter_map(|(number, name)| Some((number, own(name)? as u32))).collect();
        Ok(Some(Exits { old: open(old)?, next: open(next)?, seen, numbers }))
    }

    /// Adds to the next generation's counters what the generation before has counted since it was last asked. Each CPU adds to its own
    /// counter without atomics: what one counts between the reading and the writing here is lost. So this is done twice, not more.
    pub fn bring(&mut self) -> Result<()> {
        for (number, own) in &self.numbers {
            let now = self.old.get(number, 0)?.iter().fold(0u64, |sum, count| sum.wrapping_add(*count));
            let more = now.wrapping_sub(self.seen.get(*number));
            if more != 0 {
                let mut counts: Vec<u64> = self.next.get(own, 0)?.iter().copied().collect();
                if let Some(first) = counts.first_mut() {
                    *first = first.wrapping_add(more);
                }
                self.next.set(*own, PerCpuValues::try_from(counts)?, 0)?;
                self.seen.set(*number, now);
            }
        }
        Ok(())
    }
}
