//! The loaded data plane: its maps, and how configuration becomes visible to packets.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use aya::maps::{HashMap, Map, MapData, MapError, PerCpuArray};
use aya_obj::generated::bpf_map_type;
use lvs_common::abi::{
    Bucket, Connection, Counters, DestConfig, DestId, Destination, Device, EngineData, EngineKey, FwmarkKey, Idle,
    LocalAddress, MarkRule, Rates, RosterPart, Service, ServiceConfig, ServiceId, ServiceKey, Settings, Switch, Sync,
    WAYS, Watch,
};
use lvs_common::exit::EXITS;
use lvs_common::fragments::Held;

use super::bpffs::Directory;
use super::error::{Context, Result};
use super::layout;
use super::mapped::{Mapped, field, put};
use super::pod::Pod;
use super::sizes;
use super::syscall;

/// What persistence engines keyed templates with.
type Engines = HashMap<MapData, Pod<EngineKey>, Pod<EngineData>>;

/// The maps of this network namespace's data plane, under the lock of their directory.
#[derive(Debug)]
pub struct Plane {
    /// Where the pins are; its lock is held as long as the plane is.
    pub directory: Directory,
    pub(super) settings: Mapped<Settings>,
    pub(super) watch: Mapped<Watch>,
    pub(super) marks: Mapped<MarkRule>,
    pub(super) services: Mapped<Service, ServiceId>,
    pub(super) dests: Mapped<Destination, DestId>,
    pub(super) idle: Mapped<Idle, DestId>,
    pub(super) counters: Mapped<Counters>,
    pub(super) dest_rates: Mapped<Rates, DestId>,
    pub(super) service_rates: Mapped<Rates, ServiceId>,
    pub(super) buckets4: Mapped<Bucket>,
    pub(super) buckets6: Mapped<Bucket>,
    pub(super) conns4: Mapped<Connection<u32>>,
    pub(super) conns6: Mapped<Connection<[u32; 4]>>,
    /// Opened for a listing that needs it; `None` if it cannot be.
    engines: OnceCell<Option<Engines>>,
    pub(super) service4: HashMap<MapData, Pod<ServiceKey<u32>>, Pod<ServiceId>>,
    pub(super) service6: HashMap<MapData, Pod<ServiceKey<[u32; 4]>>, Pod<ServiceId>>,
    pub(super) fwmarks: HashMap<MapData, Pod<FwmarkKey>, Pod<ServiceId>>,
    pub(super) locals: Mapped<LocalAddress>,
    pub(super) devices: Mapped<Device>,
    pub(super) rosters: Mapped<RosterPart>,
    pub(super) sync: Mapped<Sync>,
    tables: MapData,
    /// Services whose scheduler's table has to be built before the next switch.
    pub(super) tables_due: BTreeSet<ServiceId>,
    /// Services whose roster may have to be built before.
    pub(super) rosters_due: BTreeSet<ServiceId>,
    /// While changes are staged, so that their epoch is the next one: how many slots of services and destinations were
    /// used before.
    pub(super) staging: Option<(u32, u32)>,
}

/// `BPF_F_INNER_MAP` and `BPF_F_MMAPABLE`: tables of a map of maps may differ in size, and are filled in memory.
const INNER: u32 = 1 << 12 | 1 << 10;

/// A slot of a table, a scheduler's or of local addresses; elements of an array stand at multiples of eight bytes.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
struct Slot(u32);

fn hash<K: aya::Pod, V: aya::Pod>(directory: &Path, name: &str) -> Result<HashMap<MapData, K, V>> {
    let context = || format!("cannot open map {name}");
    let map =
        Map::from_map_data(MapData::from_pin(directory.join(name)).with_context(context)?).with_context(context)?;
    HashMap::try_from(map).with_context(context)
}

impl Plane {
    /// Opens the pinned maps as they are; gives the directory back if nothing is loaded in this network namespace.
    pub(super) fn map(mut directory: Directory) -> Result<Result<Plane, Directory>> {
        let path = directory.path();
        match std::fs::metadata(path.join("SETTINGS")) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Err(directory)),
            other => other.context("cannot look into the directory of pins")?,
        };
        layout::check(&path)?;
        directory.identify();
        Ok(Ok(Plane {
            settings: Mapped::open(&path.join("SETTINGS"))?,
            watch: Mapped::open(&path.join("WATCH"))?,
            marks: Mapped::open(&path.join("MARKS"))?,
            services: Mapped::open(&path.join("SERVICES"))?,
            dests: Mapped::open(&path.join("DESTS"))?,
            idle: Mapped::open(&path.join("IDLE"))?,
            counters: Mapped::open(&path.join("COUNTERS"))?,
            dest_rates: Mapped::open(&path.join("DEST_RATES"))?,
            service_rates: Mapped::open(&path.join("SERVICE_RATES"))?,
            buckets4: Mapped::open(&path.join("BUCKETS4"))?,
            buckets6: Mapped::open(&path.join("BUCKETS6"))?,
            locals: Mapped::open(&path.join("LOCALS"))?,
            devices: Mapped::open(&path.join("DEVICES"))?,
            conns4: Mapped::open(&path.join("CONNS4"))?,
            conns6: Mapped::open(&path.join("CONNS6"))?,
            engines: OnceCell::new(),
            service4: hash(&path, "SERVICE4")?,
            service6: hash(&path, "SERVICE6")?,
            fwmarks: hash(&path, "FWMARKS")?,
            rosters: Mapped::open(&path.join("ROSTERS"))?,
            sync: Mapped::open(&path.join("SYNC"))?,
            tables: MapData::from_pin(path.join("TABLES")).context("cannot open map TABLES")?,
            tables_due: BTreeSet::new(),
            rosters_due: BTreeSet::new(),
            directory,
            staging: None,
        }))
    }

    /// The name of the maps' layout.
    pub fn layout(&self) -> Result<String> {
        layout::name(&self.directory.path())
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
        after.derive();
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
        let settings = self.settings();
        self.staging = Some((settings.services_used, settings.dests_used));
        self.set(|s| s.staged = 1);
    }

    /// Whether changes are being staged.
    pub fn is_staging(&self) -> bool {
        self.staging.is_some()
    }

    /// Makes everything staged visible to packets, with one store.
    pub fn switch(&mut self) {
        let next = self.now() + 1;
        // Everything staged comes before it.
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        put!(self.settings, 0, epoch, next);
        self.staging = None;
        self.set(|s| s.staged = 0);
    }

    /// The epoch that is in force.
    pub fn now(&self) -> u64 {
        field!(self.settings, 0, epoch)
    }

    /// The epoch whose configuration is looked at: with staged changes, while there are any.
    pub fn epoch(&self) -> u64 {
        self.now() + u64::from(self.is_staging())
    }

    /// A service's configuration.
    pub fn service_config(&self, id: ServiceId) -> ServiceConfig {
        let switch = field!(self.services, id, switch);
        field!(self.services, id, config)[switch.copy(self.epoch())]
    }

    /// A destination's configuration.
    pub fn dest_config(&self, id: DestId) -> DestConfig {
        let switch = field!(self.dests, id, switch);
        field!(self.dests, id, config)[switch.copy(self.epoch())]
    }

    /// Stages a change of a service's configuration.
    pub fn change_service(&mut self, id: ServiceId, change: impl FnOnce(&mut ServiceConfig)) {
        let now = self.now();
        let switch = field!(self.services, id, switch);
        let (copy, fresh) = staged(switch, now);
        let mut config = field!(self.services, id, config)[switch.copy(now + 1)];
        change(&mut config);
        let target = self.services.at(id);
        // SAFETY: a copy of the element's configuration, which is not in force.
        unsafe { (&raw mut (*target).config).cast::<ServiceConfig>().add(copy).write_volatile(config) }
        if fresh {
            put!(self.services, id, switch, Switch::at(now + 1, copy));
        }
    }

    /// Stages a change of a destination's configuration.
    pub fn change_dest(&mut self, id: DestId, change: impl FnOnce(&mut DestConfig)) {
        let now = self.now();
        let switch = field!(self.dests, id, switch);
        let (copy, fresh) = staged(switch, now);
        let mut config = field!(self.dests, id, config)[switch.copy(now + 1)];
        change(&mut config);
        let target = self.dests.at(id);
        // SAFETY: as above.
        unsafe { (&raw mut (*target).config).cast::<DestConfig>().add(copy).write_volatile(config) }
        if fresh {
            put!(self.dests, id, switch, Switch::at(now + 1, copy));
        }
    }

    /// What a destination counted on all CPUs.
    pub fn counted(&self, id: DestId) -> Counters {
        let stride = self.dests.count();
        let rows = self.counters.count() / stride;
        (0..rows).fold(Counters::default(), |sum, row| sum.plus(self.counters.get(row * stride + id.get())))
    }

    /// Puts new tables, of schedulers' slots or of local addresses, into places, which no configuration in force refers to. All at once, because the kernel
    /// waits for the programs that run meanwhile.
    pub fn put_tables(&mut self, tables: &[(u32, Vec<u32>)]) -> Result<()> {
        let context = "cannot make a table";
        let (array, word) = (bpf_map_type::BPF_MAP_TYPE_ARRAY as u32, size_of::<u32>() as u32);
        let mut arrays = Vec::with_capacity(tables.len());
        for (_, slots) in tables {
            let kind = aya_obj::Map::new_from_params(array, word, word, slots.len() as u32, INNER);
            let table = Mapped::<Slot>::of(MapData::create(kind, "slots", None).context(context)?).context(context)?;
            slots.iter().enumerate().for_each(|(at, word)| table.set(at as u32, Slot(*word)));
            arrays.push(table);
        }
        let places: Vec<u32> = tables.iter().map(|(place, _)| *place).collect();
        let descriptors: Vec<u32> = arrays.iter().map(Mapped::descriptor).collect();
        syscall::update(&self.tables, &places, &descriptors).context(context)
    }

    /// The slots of the table in a place.
    pub fn table(&self, place: u32) -> Result<Vec<u32>> {
        let context = "cannot read a table";
        let id = syscall::look_up(&self.tables, place).context(context)?;
        let table = Mapped::<Slot>::of(MapData::from_id(id).context(context)?).context(context)?;
        Ok((0..table.count()).map(|at| table.get(at).0).collect())
    }

    /// Opens a map that few commands need.
    pub(super) fn open_map(&self, name: &str) -> Result<MapData> {
        MapData::from_pin(self.directory.path().join(name)).with_context(|| format!("cannot open map {name}"))
    }

    /// Opens a hash map that few commands need.
    pub(super) fn open_hash<K: aya::Pod, V: aya::Pod>(&self, name: &str) -> Result<HashMap<MapData, K, V>> {
        hash(&self.directory.path(), name)
    }

    /// Stores what the XDP program must know of a device, in slot `slot`.
    pub fn put_device(&mut self, slot: u32, device: Device) {
        self.devices.set(slot, device);
    }

    /// The device in a slot.
    pub fn device(&self, slot: u32) -> Device {
        self.devices.get(slot)
    }

    /// What a persistence engine keyed a template with, if there was room to remember it.
    pub fn engine_data(&self, key: EngineKey) -> Option<EngineData> {
        let engines = self.engines.get_or_init(|| hash(&self.directory.path(), "ENGINES").ok());
        engines.as_ref()?.get(&Pod(key), 0).ok().map(|Pod(data)| data)
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

    /// How many cells hold fragments that wait for others, and how many cells there are.
    pub fn fragments(&self) -> Result<(u32, u32)> {
        let context = "cannot open map HELD";
        let data = MapData::from_pin(self.directory.path().join("HELD")).context(context)?;
        let cells = Mapped::<Held>::of(data).context(context)?;
        let taken = (0..cells.count()).filter(|cell| cells.get(*cell).serial != 0).count();
        Ok((taken as u32, cells.count()))
    }

    /// How many connections of each family, services and destinations there is room for.
    pub fn sizes(&self) -> (u32, u32, u32) {
        (self.conns4.count() / 4 * 3, self.services.count() - 1, self.dests.count() - 1)
    }

    /// How many buckets each family's connection table has, and how many of them are full: of IPv4, and of IPv6.
    pub fn full_buckets(&self) -> (u32, [u32; 2]) {
        let full = |buckets: &Mapped<Bucket>| {
            (0..buckets.count()).filter(|at| field!(buckets, *at, used) >= WAYS).count() as u32
        };
        (self.buckets4.count(), [full(&self.buckets4), full(&self.buckets6)])
    }

    /// Whether it is as large as if it had been loaded for so many connections.
    pub fn has_room_for(&self, connections: u32) -> bool {
        sizes::buckets(connections) == self.buckets4.count()
    }

    /// How many tables there can be.
    pub fn table_places(&self) -> Result<u32> {
        Ok(self.tables.info().context("cannot look at map TABLES")?.max_entries())
    }
}

/// Which copy a change goes to, and whether the switch has yet to be set: one that is pending already names it.
pub(super) fn staged(switch: Switch, epoch: u64) -> (usize, bool) {
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
