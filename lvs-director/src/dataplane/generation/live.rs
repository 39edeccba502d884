//! Words of the configuration's maps that packets change, where two generations have maps of their own: counts of connections, counters,
//! and whose turn it is.
//!
//! Both generations add to their own words as long as packets come to both. What the generation before has added since it was last
//! asked is added to the next one's words, so an entry of the connection table counts where it counts already, whether it has moved or
//! not. How much was brought is pinned beside the maps, for the command that goes on if this one is killed.

use std::path::Path;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU32, AtomicU64};

use aya::maps::MapData;
use aya_obj::generated::bpf_map_type;
use lvs_common::abi::{Counters, DestId, Destination, Service, ServiceId, Settings, common_counters};

use super::super::error::{Context, Error, Result, unfit};
use super::super::layout::{Description, Foreign, Layouts, Plan, Raw};
use super::super::mapped::{Mapped, put};
use super::super::pinned::{elements, number};
use super::super::pins;
use super::exits::Exits;
use super::maps::{COUNTERS, EXITS};

/// How the names of the maps begin that say how much was brought.
const SEEN: &str = "SEEN_";

/// Fields of arrays to which packets add.
const SUMS: [(&str, &str, &[&str]); 2] =
    [("DESTS", "Destination", &["connections", "persistent"]), ("LOCALS", "LocalAddress", &["conns", "conflicts"])];

const BYTES: u32 = size_of::<u64>() as u32;
/// `BPF_F_MMAPABLE`
const MMAPABLE: u32 = 1 << 10;

/// Prepares maps that were converted: what packets add to begins with nothing, and nothing was brought.
pub fn prepare(old: &Path, next: &Path, converted: &[String], layouts: &Layouts) -> Result<()> {
    let is_converted = |name: &str| converted.iter().any(|it| it == name);
    for (map, of, fields) in SUMS.into_iter().filter(|(map, ..)| is_converted(map)) {
        let words = words(layouts, of, fields)?;
        let own = Raw::open(&next.join(map), size_in(&layouts.own, of))?;
        for index in 0..own.count() {
            for [_, (at, size)] in &words {
                // SAFETY: a word of the element, which no packet uses yet.
                unsafe { own.at(index).add(*at).write_bytes(0, *size) }
            }
        }
        let elements = Raw::open(&old.join(map), size_in(&layouts.from, of))?.count();
        pin_seen(next, map, fields.len() as u32 * BYTES, elements)?;
    }
    if is_converted(COUNTERS) {
        pin_seen(next, COUNTERS, size_of::<Counters>() as u32, elements(&old.join("DESTS"))?)?;
    }
    if is_converted(EXITS) {
        pin_seen(next, EXITS, BYTES, elements(&old.join(EXITS))?)?;
    }
    Ok(())
}

fn pin_seen(next: &Path, map: &str, bytes: u32, elements: u32) -> Result<()> {
    let name = format!("{SEEN}{map}");
    let kind = bpf_map_type::BPF_MAP_TYPE_ARRAY as u32;
    let seen = aya_obj::Map::new_from_params(kind, size_of::<u32>() as u32, bytes, elements, MMAPABLE);
    let context = || format!("cannot make map {name}");
    MapData::create(seen, &name, None).with_context(context)?.pin(next.join(&name)).with_context(context)
}

fn size_in(description: &Description, of: &str) -> usize {
    description.types.get(of).map_or(0, |it| it.size)
}

/// Removes the pins that say how much was brought.
pub fn forget(directory: &Path) -> Result<()> {
    for map in SUMS.map(|(map, ..)| map).into_iter().chain([COUNTERS, EXITS]) {
        pins::unpin(&directory.join(format!("{SEEN}{map}")))?;
    }
    Ok(())
}

/// A number's place and size, in the generation before and in the next one.
type Word = [(usize, usize); 2];

fn words(layouts: &Layouts, of: &str, fields: &[&str]) -> Result<Vec<Word>> {
    let word = |field: &&str| {
        let word = Plan::word(&layouts.from, &layouts.own, of, field);
        word.filter(|[_, (at, size)]| matches!(size, 4 | 8) && at % size == 0)
            .ok_or_else(|| Error::TooForeign { why: format!("its {of} has no {field}") })
    };
    fields.iter().map(word).collect()
}

/// The words of an array.
#[derive(Debug)]
struct Sums {
    old: Raw,
    next: Raw,
    seen: Raw,
    words: Vec<Word>,
}

impl Sums {
    fn open(
        old: &Path,
        next: &Path,
        (map, of, fields): (&str, &str, &[&str]),
        layouts: &Layouts,
    ) -> Result<Option<Self>> {
        let seen = next.join(format!("{SEEN}{map}"));
        if !seen.exists() {
            return Ok(None);
        }
        Ok(Some(Sums {
            old: Raw::open(&old.join(map), size_in(&layouts.from, of))?,
            next: Raw::open(&next.join(map), size_in(&layouts.own, of))?,
            seen: Raw::open(&seen, fields.len() * size_of::<u64>())?,
            words: words(layouts, of, fields)?,
        }))
    }

    fn bring(&self) {
        for index in 0..self.old.count().min(self.next.count()) {
            for (number, [(from, size), (to, own)]) in self.words.iter().enumerate() {
                // SAFETY: words of elements, aligned by their types; everybody changes those by atomics.
                unsafe {
                    let word = self.old.at(index).add(*from);
                    let now = if *size == 8 {
                        AtomicU64::from_ptr(word.cast()).load(SeqCst)
                    } else {
                        AtomicU32::from_ptr(word.cast()).load(SeqCst).into()
                    };
                    let seen = AtomicU64::from_ptr(self.seen.at(index).cast::<u64>().add(number));
                    let more = now.wrapping_sub(seen.load(SeqCst));
                    if more == 0 {
                        continue;
                    }
                    let word = self.next.at(index).add(*to);
                    if *own == 8 {
                        AtomicU64::from_ptr(word.cast()).fetch_add(more, SeqCst);
                    } else {
                        AtomicU32::from_ptr(word.cast()).fetch_add(more as u32, SeqCst);
                    }
                    seen.store(now, SeqCst);
                }
            }
        }
    }
}

/// Counters: what all CPUs have counted becomes a part of the common row, to which everybody may add.
#[derive(Debug)]
struct Counted {
    old: Foreign<Counters>,
    /// Destinations that each row of the generation before has.
    stride: u32,
    next: Mapped<Counters>,
    seen: Mapped<Counters>,
    settings: Mapped<Settings>,
}

impl Counted {
    fn open(old: &Path, next: &Path, layouts: &Layouts) -> Result<Option<Self>> {
        let seen = next.join(format!("{SEEN}{COUNTERS}"));
        if !seen.exists() {
            return Ok(None);
        }
        let stride = elements(&old.join("DESTS"))?;
        let counted = Counted {
            old: Foreign::open(old, COUNTERS, layouts)?,
            stride,
            next: Mapped::open(&next.join(COUNTERS))?,
            seen: Mapped::open(&seen)?,
            settings: Mapped::open(&next.join("SETTINGS"))?,
        };
        if stride == 0 || !counted.old.count().is_multiple_of(stride) || counted.seen.count() != stride {
            return unfit("the counters of the generation before are laid out otherwise");
        }
        Ok(Some(counted))
    }

    fn bring(&self) {
        let used = self.settings.get(0).dests_used.min(self.stride);
        for id in 0..used {
            let rows = (id..self.old.count()).step_by(self.stride as usize);
            let now = rows.fold(Counters::default(), |sum, place| sum.plus(self.old.get(place)));
            let more = now.since(self.seen.get(id));
            if more == Counters::default() {
                continue;
            }
            let place = common_counters(DestId::new(id));
            add(&self.next, place, more);
            self.seen.set(id, now);
        }
    }
}

/// Adds to an element of the common row, to which everybody adds by atomics.
fn add(counters: &Mapped<Counters>, place: u32, more: Counters) {
    let element = counters.at(place);
    let Counters { conns, in_packets, out_packets, in_bytes, out_bytes } = more;
    // SAFETY: words of an element that `at` has checked, aligned by their type.
    let words = unsafe {
        [
            (AtomicU64::from_ptr(&raw mut (*element).conns), conns),
            (AtomicU64::from_ptr(&raw mut (*element).in_packets), in_packets),
            (AtomicU64::from_ptr(&raw mut (*element).out_packets), out_packets),
            (AtomicU64::from_ptr(&raw mut (*element).in_bytes), in_bytes),
            (AtomicU64::from_ptr(&raw mut (*element).out_bytes), out_bytes),
        ]
    };
    for (word, more) in words {
        word.fetch_add(more, SeqCst);
    }
}

/// See the module.
pub struct Live {
    sums: Vec<Sums>,
    counted: Option<Counted>,
    exits: Option<Exits>,
    services: Option<(Foreign<Service>, Mapped<Service, ServiceId>)>,
    dests: Option<(Foreign<Destination>, Mapped<Destination, DestId>)>,
}

impl Live {
    /// Of two generations' directories.
    pub fn of(old: &Path, next: &Path, layouts: &Layouts) -> Result<Self> {
        let has_own = |map: &str| -> Result<bool> { Ok(number(&old.join(map))? != number(&next.join(map))?) };
        let sums = SUMS.into_iter().map(|row| Sums::open(old, next, row, layouts));
        let (mut services, mut dests) = (None, None);
        if has_own("SERVICES")? {
            services = Some((Foreign::open(old, "SERVICES", layouts)?, Mapped::open(&next.join("SERVICES"))?));
        }
        if has_own("DESTS")? {
            dests = Some((Foreign::open(old, "DESTS", layouts)?, Mapped::open(&next.join("DESTS"))?));
        }
        Ok(Live {
            sums: sums.filter_map(Result::transpose).collect::<Result<_>>()?,
            counted: Counted::open(old, next, layouts)?,
            exits: Exits::open(old, next, &format!("{SEEN}{EXITS}"), layouts)?,
            services,
            dests,
        })
    }

    /// Adds to the next generation's words what the generation before has added to its own.
    pub fn bring(&self) {
        self.sums.iter().for_each(Sums::bring);
        self.counted.iter().for_each(Counted::bring);
    }

    /// The same for the counters of exits, for once: see [`Exits::bring`].
    pub fn bring_exits(&mut self) -> Result<()> {
        self.exits.as_mut().map_or(Ok(()), Exits::bring)
    }

    /// Has the next generation go on with the turns of schedulers and local addresses, and keep new connections away from what is
    /// overloaded. It makes new connections from now on.
    pub fn hand_on(&self) {
        if let Some((old, next)) = &self.services {
            for index in 0..old.count().min(next.count()) {
                let (id, service) = (ServiceId::new(index), old.get(index));
                put!(next, id, local_turn, service.local_turn);
                for (copy, config) in service.config.iter().enumerate() {
                    // SAFETY: a word of an element that `at` has checked.
                    unsafe { (&raw mut (*next.at(id)).config[copy].sched_state).write_volatile(config.sched_state) }
                }
            }
        }
        if let Some((old, next)) = &self.dests {
            for index in 0..old.count().min(next.count()) {
                put!(next, DestId::new(index), overloaded, old.get(index).overloaded);
            }
        }
    }
}
