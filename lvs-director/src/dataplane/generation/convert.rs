//! What maps of the generation before hold becomes what maps of another form, or another size, hold in the next one. No packet uses those
//! yet. Numbers of services, destinations and local addresses stay as they are.

use std::collections::BTreeMap;
use std::path::Path;

use aya::maps::MapData;
use aya_obj::generated::bpf_map_type;
use lvs_common::abi::extras::IPV6;
use lvs_common::abi::tunnel::TUNNELS;
use lvs_common::abi::{DestId, Destination, Forward, Service, ServiceId, Settings, Watch, dest_flags, service_flags};

use super::super::error::{Context, Error, Result, unfit};
use super::super::extras::Extras;
use super::super::layout::{Layouts, Plan, Raw};
use super::super::mapped::Mapped;
use super::super::syscall;
use super::maps;
use crate::rules;

/// Bytes of the length of a prefix, before the key of a trie.
const PREFIX_LENGTH: usize = 4;

/// Fields that have no counterpart, and how many elements had a value there.
pub type LeftBehind = BTreeMap<String, u32>;

/// Copies what a map holds.
pub fn convert(old: &Path, next: &Path, name: &str, layouts: &Layouts, left: &mut LeftBehind) -> Result<()> {
    let context = || format!("cannot copy map {name}");
    match name {
        "TABLES" => tables(old, next),
        "WATCH" => watch_all(next),
        // Counters are brought while packets flow: see `live`.
        maps::COUNTERS | maps::EXITS => Ok(()),
        _ => match open(&next.join(name))?.info()?.map_type()? as u32 {
            ARRAY => array(old, next, name, layouts, left),
            _ => keyed(old, next, name, layouts, left),
        },
    }
    .with_context(context)
}

const ARRAY: u32 = bpf_map_type::BPF_MAP_TYPE_ARRAY as u32;
const TRIE: u32 = bpf_map_type::BPF_MAP_TYPE_LPM_TRIE as u32;

fn open(pin: &Path) -> Result<MapData> {
    MapData::from_pin(pin).with_context(|| format!("cannot open map {}", pin.display()))
}

/// An element as its map begins: in words, so that it stands at a multiple of eight bytes.
fn default_of(name: &str, size: usize) -> Vec<u64> {
    let mut words = vec![0; size.div_ceil(8)];
    if name == "SETTINGS" && size == size_of::<Settings>() {
        // SAFETY: room for the settings, aligned as they are.
        unsafe { words.as_mut_ptr().cast::<Settings>().write(Settings::default()) }
    }
    words
}

/// Copies an array.
fn array(old: &Path, next: &Path, name: &str, layouts: &Layouts, left: &mut LeftBehind) -> Result<()> {
    let Some(of) = layouts.own.maps.get(name).and_then(|held| held.value.as_ref()) else {
        return unfit("its elements are not described");
    };
    let plan = Plan::new(&layouts.from, &layouts.own, of)?;
    let (from, to) = (Raw::open(&old.join(name), plan.from_size)?, Raw::open(&next.join(name), plan.size)?);
    let default = default_of(name, plan.size);
    for index in 0..from.count() {
        let element = from.at(index);
        // SAFETY: elements of both layouts.
        unsafe {
            if index >= to.count() {
                let is_used = (0..plan.from_size).any(|at| element.add(at).read() != 0);
                if is_used {
                    return unfit(format!("element {index} of {name} is in use: make room for more"));
                }
                continue;
            }
            to.at(index).copy_from_nonoverlapping(default.as_ptr().cast(), plan.size);
            plan.apply(element, to.at(index));
            plan.left_behind(element).for_each(|field| *left.entry(field.to_owned()).or_default() += 1);
        }
    }
    Ok(())
}

/// Copies a hash table or a trie.
fn keyed(old: &Path, next: &Path, name: &str, layouts: &Layouts, left: &mut LeftBehind) -> Result<()> {
    let (from, to) = (open(&old.join(name))?, open(&next.join(name))?);
    let info = from.info()?;
    let before = if info.map_type()? as u32 == TRIE { PREFIX_LENGTH } else { 0 };
    let Some(held) = layouts.own.maps.get(name) else { return unfit("what it holds is not described") };
    let plan = |of: &Option<String>, size: u32, before: usize| match of {
        Some(of) => Plan::new(&layouts.from, &layouts.own, of),
        None => Ok(Plan::alike(size as usize - before)),
    };
    let (keys, values) = (plan(&held.key, info.key_size(), before)?, plan(&held.value, info.value_size(), 0)?);
    if (keys.from_size + before, values.from_size) != (info.key_size() as usize, info.value_size() as usize) {
        return unfit("its keys or values are of another size than described");
    }
    let mut at = syscall::next_key(&from, None)?;
    while let Some(key) = at {
        let mut value = vec![0; values.from_size];
        syscall::get_bytes(&from, &key, &mut value)?;
        let (own_key, own_value) = (translated(&keys, &key[before..], left), translated(&values, &value, left));
        syscall::put_bytes(&to, &[&key[..before], &own_key].concat(), &own_value)?;
        at = syscall::next_key(&from, Some(&key))?;
    }
    Ok(())
}

/// Bytes of an element in this build's layout.
fn translated(plan: &Plan, bytes: &[u8], left: &mut LeftBehind) -> Vec<u8> {
    let mut from = vec![0u64; plan.from_size.div_ceil(8)];
    let mut to = vec![0u64; plan.size.div_ceil(8)];
    let (source, target) = (from.as_mut_ptr().cast::<u8>(), to.as_mut_ptr().cast::<u8>());
    let mut own = vec![0; plan.size];
    // SAFETY: elements of both layouts, which have so many bytes.
    unsafe {
        source.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len().min(plan.from_size));
        plan.apply(source, target);
        plan.left_behind(source).for_each(|field| *left.entry(field.to_owned()).or_default() += 1);
        own.as_mut_ptr().copy_from_nonoverlapping(target, plan.size);
    }
    own
}

/// Puts the tables of schedulers and of local addresses into the places that they have.
pub fn tables(old: &Path, next: &Path) -> Result<()> {
    let (from, to) = (open(&old.join("TABLES"))?, open(&next.join("TABLES"))?);
    let (places, room) = (from.info()?.max_entries(), to.info()?.max_entries());
    for place in 0..places {
        // A place without a table has no number.
        let Ok(number) = syscall::look_up(&from, place) else { continue };
        if place >= room {
            return unfit(format!("table {place} is in use: make room for more services"));
        }
        let table = Mapped::<u64>::of(MapData::from_id(number)?)?;
        syscall::update(&to, &[place], &[table.descriptor()])?;
    }
    Ok(())
}

/// Has the watch filter know everything: the other one's hash may differ, and packets add to it meanwhile. A bit too many only costs a
/// look-up, until the filter is [narrowed](super::super::plane::Plane::prune_watch).
fn watch_all(next: &Path) -> Result<()> {
    const ALL: [u64; 1024] = [u64::MAX; 1024];
    Mapped::<Watch>::open(&next.join("WATCH"))?.set(0, Watch { virt: ALL, reply: ALL, served: ALL });
    Ok(())
}

/// Completes what was copied: the settings that follow from others, and what was loaded. Refuses what this build has no name for.
pub fn complete(next: &Path, extras: Extras, converted: &[String]) -> Result<()> {
    let place = Mapped::<Settings>::open(&next.join("SETTINGS"))?;
    let mut settings = place.get(0);
    if converted.iter().any(|name| name == "SETTINGS") {
        settings.derive();
        settings.extras = if extras.ipv6 { IPV6 } else { 0 };
        place.set(0, settings);
    }
    let services = Mapped::<Service, ServiceId>::open(&next.join("SERVICES"))?;
    for id in settings.service_slots().filter(|id| id.get() < services.count()) {
        let service = services.get(id);
        let config = service.config[service.switch.copy(settings.epoch)];
        if config.flags & service_flags::PRESENT != 0 && rules::scheduler_by_number(config.scheduler).is_none() {
            return nameless("service", "scheduler", config.scheduler);
        }
    }
    let dests = Mapped::<Destination, DestId>::open(&next.join("DESTS"))?;
    for id in settings.dest_slots().filter(|id| id.get() < dests.count()) {
        let dest = dests.get(id);
        let config = dest.config[dest.switch.copy(settings.epoch)];
        match config.forward.forward() {
            _ if config.flags & dest_flags::AVAILABLE == 0 => {}
            None => return nameless("real server", "forwarding method", config.forward.number()),
            Some(Forward::Tunnel) if !TUNNELS.iter().any(|form| form.kind == config.tunnel) => {
                return nameless("real server", "tunnel", config.tunnel.0);
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn nameless(whose: &str, what: &str, number: u8) -> Result<()> {
    Err(Error::TooForeign { why: format!("a {whose} has {what} number {number}, which this version does not have") })
}
