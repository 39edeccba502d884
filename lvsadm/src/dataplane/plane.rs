//! The loaded data plane: its maps, and how configuration becomes visible to packets.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use aya::maps::{Array, ArrayOfMaps, HashMap, Map, MapData, MapError, PerCpuArray};
use lvs_common::abi::{
    Bucket, Connection, Counters, DestConfig, DestId, Destination, Device, FwmarkKey, Rates, Service, ServiceConfig,
    ServiceId, ServiceKey, Settings, Switch, Watch,
};

use lvs_common::exit::EXITS;

use super::bpffs::Directory;
use super::mapped::Mapped;
use super::pod::Pod;

/// The maps of this network namespace's data plane, under the lock of their directory.
#[derive(Debug)]
pub struct Plane {
    /// Where the pins are; its lock is held as long as the plane is.
    pub directory: Directory,
    pub(super) settings: Mapped<Settings>,
    pub(super) watch: Mapped<Watch>,
    pub(super) services: Mapped<Service>,
    pub(super) dests: Mapped<Destination>,
    pub(super) counters: Mapped<Counters>,
    pub(super) dest_rates: Mapped<Rates>,
    pub(super) service_rates: Mapped<Rates>,
    pub(super) buckets4: Mapped<Bucket>,
    pub(super) buckets6: Mapped<Bucket>,
    pub(super) conns4: Mapped<Connection<u32>>,
    pub(super) conns6: Mapped<Connection<[u32; 4]>>,
    pub(super) service4: HashMap<MapData, Pod<ServiceKey<u32>>, ServiceId>,
    pub(super) service6: HashMap<MapData, Pod<ServiceKey<[u32; 4]>>, ServiceId>,
    pub(super) fwmarks: HashMap<MapData, Pod<FwmarkKey>, ServiceId>,
    devices: Mapped<Device>,
    tables: ArrayOfMaps<MapData, Array<MapData, u32>>,
    /// Whether changes are being grouped: then their epoch is the next one.
    staging: bool,
}

/// `BPF_F_INNER_MAP`: tables of a map of maps may differ in size.
const INNER: u32 = 1 << 12;

/// Marks [`Settings::pad`] while changes are staged: who finds it after taking the lock cleans up after a dead writer.
const STAGED: u32 = 1;

fn hash<K: aya::Pod, V: aya::Pod>(directory: &Path, name: &str) -> Result<HashMap<MapData, K, V>> {
    let context = || format!("cannot open map {name}");
    let map =
        Map::from_map_data(MapData::from_pin(directory.join(name)).with_context(context)?).with_context(context)?;
    HashMap::try_from(map).with_context(context)
}

impl Plane {
    /// Opens the pinned maps; `None` if nothing is loaded in this network namespace.
    pub fn open(directory: Directory) -> Result<Result<Plane, Directory>> {
        let path = directory.path();
        match std::fs::metadata(path.join("SETTINGS")) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Err(directory)),
            other => other.context("cannot look into the directory of pins")?,
        };
        let tables = Map::from_map_data(MapData::from_pin(path.join("TABLES")).context("cannot open map TABLES")?)?;
        let mut plane = Plane {
            settings: Mapped::open(&path.join("SETTINGS"))?,
            watch: Mapped::open(&path.join("WATCH"))?,
            services: Mapped::open(&path.join("SERVICES"))?,
            dests: Mapped::open(&path.join("DESTS"))?,
            counters: Mapped::open(&path.join("COUNTERS"))?,
            dest_rates: Mapped::open(&path.join("DEST_RATES"))?,
            service_rates: Mapped::open(&path.join("SERVICE_RATES"))?,
            buckets4: Mapped::open(&path.join("BUCKETS4"))?,
            buckets6: Mapped::open(&path.join("BUCKETS6"))?,
            devices: Mapped::open(&path.join("DEVICES"))?,
            conns4: Mapped::open(&path.join("CONNS4"))?,
            conns6: Mapped::open(&path.join("CONNS6"))?,
            service4: hash(&path, "SERVICE4")?,
            service6: hash(&path, "SERVICE6")?,
            fwmarks: hash(&path, "FWMARKS")?,
            tables: ArrayOfMaps::try_from(tables).context("cannot open map TABLES")?,
            directory,
            staging: false,
        };
        plane.recover()?;
        Ok(Ok(plane))
    }

    /// The settings.
    pub fn settings(&self) -> Settings {
        self.settings.get(0)
    }

    /// Changes a setting; packets see it at once.
    pub fn set(&mut self, change: impl FnOnce(&mut Settings)) {
        let before = self.settings.get(0);
        let mut after = before;
        change(&mut after);
        // Only what changed is stored: the clock in there is the sweep's.
        let (from, to) = (words(&before), words(&after));
        let target = self.settings.at(0).cast::<u32>();
        for (at, (old, new)) in from.iter().zip(to).enumerate() {
            if *old != new {
                // SAFETY: a word of the element.
                unsafe { target.add(at).write_volatile(new) }
            }
        }
    }

    /// Begins to stage changes.
    pub fn stage(&mut self) {
        self.staging = true;
        self.set(|s| s.pad = STAGED);
    }

    /// Whether changes are being staged.
    pub fn is_staging(&self) -> bool {
        self.staging
    }

    /// Makes everything staged visible to packets, with one store.
    pub fn switch(&mut self) {
        let next = self.settings().epoch + 1;
        // SAFETY: a field of the element; the fence keeps everything staged before it.
        unsafe {
            std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
            (&raw mut (*self.settings.at(0)).epoch).write_volatile(next);
        }
        self.staging = false;
        self.set(|s| s.pad = 0);
    }

    /// The epoch whose configuration is looked at: with staged changes, while there are any.
    pub fn epoch(&self) -> u64 {
        self.settings().epoch + u64::from(self.staging)
    }

    /// Forgets what a writer that died had staged.
    fn recover(&mut self) -> Result<()> {
        let settings = self.settings();
        if settings.pad == 0 {
            return Ok(());
        }
        let epoch = settings.epoch;
        for id in 1..settings.services_used {
            let switch = self.services.get(id).switch;
            if switch.pending(epoch) {
                // SAFETY: a field of the element.
                unsafe {
                    (&raw mut (*self.services.at(id)).switch).write_volatile(Switch::at(epoch, switch.copy(epoch)))
                }
            }
        }
        for id in 1..settings.dests_used {
            let switch = self.dests.get(id).switch;
            if switch.pending(epoch) {
                // SAFETY: as above.
                unsafe { (&raw mut (*self.dests.at(id)).switch).write_volatile(Switch::at(epoch, switch.copy(epoch))) }
            }
        }
        self.set(|s| s.pad = 0);
        self.sweep_index()
    }

    /// A service's configuration.
    pub fn service_config(&self, id: ServiceId) -> ServiceConfig {
        let service = self.services.get(id);
        service.config[service.switch.copy(self.epoch())]
    }

    /// A destination's configuration.
    pub fn dest_config(&self, id: DestId) -> DestConfig {
        let dest = self.dests.get(id);
        dest.config[dest.switch.copy(self.epoch())]
    }

    /// Stages a change of a service's configuration.
    pub fn change_service(&mut self, id: ServiceId, change: impl FnOnce(&mut ServiceConfig)) {
        let (now, next) = (self.settings().epoch, self.settings().epoch + 1);
        let service = self.services.get(id);
        let (copy, fresh) = staged(service.switch, now);
        let mut config = service.config[service.switch.copy(next)];
        change(&mut config);
        // SAFETY: fields of the element; the copy is not in force.
        unsafe {
            (&raw mut (*self.services.at(id)).config).cast::<ServiceConfig>().add(copy).write_volatile(config);
            if fresh {
                (&raw mut (*self.services.at(id)).switch).write_volatile(Switch::at(next, copy));
            }
        }
    }

    /// Stages a change of a destination's configuration.
    pub fn change_dest(&mut self, id: DestId, change: impl FnOnce(&mut DestConfig)) {
        let (now, next) = (self.settings().epoch, self.settings().epoch + 1);
        let dest = self.dests.get(id);
        let (copy, fresh) = staged(dest.switch, now);
        let mut config = dest.config[dest.switch.copy(next)];
        change(&mut config);
        // SAFETY: as above.
        unsafe {
            (&raw mut (*self.dests.at(id)).config).cast::<DestConfig>().add(copy).write_volatile(config);
            if fresh {
                (&raw mut (*self.dests.at(id)).switch).write_volatile(Switch::at(next, copy));
            }
        }
    }

    /// What a destination counted on all CPUs.
    pub fn counted(&self, id: DestId) -> Counters {
        let stride = self.dests.count();
        let cpus = self.counters.count() / stride;
        (0..cpus).fold(Counters::default(), |sum, cpu| sum.plus(self.counters.get(cpu * stride + id)))
    }

    /// Puts a new table of slots into place `index` of the tables, which no configuration in force refers to.
    pub fn put_table(&mut self, index: u32, slots: &[DestId]) -> Result<()> {
        let context = "cannot make a scheduler's table";
        let mut table = Array::<MapData, u32>::create(slots.len() as u32, INNER).context(context)?;
        for (at, dest) in slots.iter().enumerate() {
            table.set(at as u32, dest, 0).context(context)?;
        }
        self.tables.set(index, &table, 0).context(context)
    }

    /// Stores what the XDP program must know of a device, in slot `slot`.
    pub fn put_device(&mut self, slot: u32, device: Device) {
        self.devices.set(slot, device);
    }

    /// Every exit: its name, its meaning, and how many packets took it.
    pub fn exits(&self) -> Result<Vec<(&'static str, &'static str, u64)>> {
        let data = MapData::from_pin(self.directory.path().join("EXITS")).context("cannot open map EXITS")?;
        let map = PerCpuArray::<_, u64>::try_from(Map::from_map_data(data)?).context("cannot open map EXITS")?;
        let mut exits = Vec::with_capacity(EXITS.len());
        for (index, (name, meaning)) in EXITS.iter().enumerate() {
            let counts = map.get(&(index as u32), 0).context("cannot read map EXITS")?;
            exits.push((*name, *meaning, counts.iter().sum()));
        }
        Ok(exits)
    }

    /// How many connections of each family, services and destinations there is room for.
    pub fn sizes(&self) -> (u32, u32, u32) {
        (self.conns4.count() / 4 * 3, self.services.count() - 1, self.dests.count() - 1)
    }

    /// How many tables there can be.
    pub fn table_places(&self) -> u32 {
        self.tables.len()
    }
}

/// Which copy a change goes to, and whether the switch has yet to be set: one that is pending already names it.
fn staged(switch: Switch, epoch: u64) -> (usize, bool) {
    if switch.pending(epoch) { (switch.copy(epoch + 1), false) } else { (1 - switch.copy(epoch), true) }
}

/// The settings as words.
fn words(settings: &Settings) -> [u32; size_of::<Settings>() / 4] {
    // SAFETY: plain integers of that size, no padding.
    unsafe { std::mem::transmute_copy(settings) }
}

/// Whether a map operation failed because there is no such key.
pub(super) fn absent(error: &MapError) -> bool {
    match error {
        MapError::KeyNotFound => true,
        MapError::SyscallError(e) => e.io_error.kind() == ErrorKind::NotFound,
        _ => false,
    }
}
