//! Edits: as `lvsadm` makes them, in the copy of a configuration that is not in force, until the epoch switches.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use lvs_common::abi::{
    AF_INET, AF_INET6, DestConfig, DestId, Destination as Slot, FwmarkKey, LocalAddress, POOL_HEAD, RosterEntry,
    Service as ServiceSlot, ServiceConfig, ServiceId, ServiceKey, Settings, Switch, dest_flags, dest_slot,
    service_flags, settings_flags,
};
use lvs_common::byte_order::Be16;
use lvs_common::lookup::FTP;
use lvs_common::sched::change::{self, Change};
use lvs_common::sched::{BucketTable, SCHEDULERS, TableDest, Traits, Turns, overload, roster};
use lvs_common::watch;

use crate::director::rules::{Destination, Ip, Service};
use crate::director::sizes::ROSTER;
use crate::kernel::shared::{Shared, element, field};
use crate::maps::{DESTS, FWMARKS, LOCALS, ROSTERS, SERVICE4, SERVICE6, SERVICES, SETTINGS, TABLES, WATCH};

/// What is not one of the maps'.
const MISSING: &str = "the maps are as large as what is configured";

/// The settings.
pub fn settings() -> Shared<Settings> {
    element(&SETTINGS, 0).expect(MISSING)
}

fn service_slot(id: ServiceId) -> Shared<ServiceSlot> {
    element(&SERVICES, id.get()).expect(MISSING)
}

fn dest_slot_of(id: DestId) -> Shared<Slot> {
    element(&DESTS, id.get()).expect(MISSING)
}

/// Which copy a change goes to, and whether it is the first one since the switch.
fn staged(switch: Switch, now: u64) -> (usize, bool) {
    if switch.pending(now) { (switch.copy(now + 1), false) } else { (1 - switch.copy(now), true) }
}

macro_rules! change_config {
    ($slot:expr, $change:expr) => {{
        let (slot, now) = ($slot, settings().get().epoch);
        let switch = field!(slot.switch).load();
        let (copy, fresh) = staged(switch, now);
        let configs = field!(slot.config);
        let mut config = configs.at(switch.copy(now + 1)).load();
        $change(&mut config);
        configs.at(copy).store(config);
        if fresh {
            field!(slot.switch).store(Switch::at(now + 1, copy));
        }
    }};
}

/// Stages a change of a service's configuration.
fn change_service(id: ServiceId, change: impl FnOnce(&mut ServiceConfig)) {
    change_config!(service_slot(id), change);
}

/// Stages a change of a destination's configuration.
fn change_dest(id: DestId, change: impl FnOnce(&mut DestConfig)) {
    change_config!(dest_slot_of(id), change);
}

/// A service's configuration with what is staged.
pub fn service_config(id: ServiceId) -> ServiceConfig {
    let slot = service_slot(id).get();
    slot.config[slot.switch.copy(settings().get().epoch + 1)]
}

/// A destination's configuration with what is staged.
pub fn dest_config(id: DestId) -> DestConfig {
    let slot = dest_slot_of(id).get();
    slot.config[slot.switch.copy(settings().get().epoch + 1)]
}

/// What is staged comes into force.
pub fn commit() {
    let settings = settings();
    field!(settings.epoch).store(settings.get().epoch + 1);
}

/// Changes the settings, of which the data plane changes others.
pub fn set(change: impl FnOnce(&mut Settings)) {
    let settings = settings();
    let mut new = settings.load();
    change(&mut new);
    new.derive();
    settings.store(new);
}

/// The destinations of a service, newest first.
pub fn list(id: ServiceId) -> Vec<DestId> {
    let config = service_config(id);
    let newer = Some(config.head).filter(|head| head.is_some());
    std::iter::successors(newer, |id| Some(dest_config(*id).next).filter(|next| next.is_some())).collect()
}

/// Has packets to and from an address looked at.
fn watch(ip: Ip, is_virtual: bool) {
    let (word, bit) = if ip.is_v4() { watch::bit(ip.address.0[0]) } else { watch::bit(ip.address.0) };
    let filter = element(&WATCH, 0).expect(MISSING);
    field!(filter.reply).at(word).fetch_or(bit);
    if is_virtual {
        field!(filter.virt).at(word).fetch_or(bit);
    }
}

/// Stages a new service.
pub fn add_service(id: ServiceId, service: &Service, serial: u64) {
    let epoch = settings().get().epoch;
    service_slot(id).store(ServiceSlot {
        switch: Switch::at(epoch, 0),
        address: if service.mark == 0 { service.address.address } else { Default::default() },
        port: Be16::new(service.port),
        protocol: service.protocol,
        family: service.address.family,
        fwmark: service.mark,
        serial,
        ..ServiceSlot::default()
    });
    change_service(id, |config| *config = service_config_of(service));
    refresh(id, Change::Attached);
    let mut flags = settings_flags::SERVICES;
    if service.mark != 0 {
        flags |= settings_flags::FWMARK;
        let _ = FWMARKS.insert(FwmarkKey { mark: service.mark, family: service.address.family.into() }, id, 0);
    } else {
        watch(service.address, true);
        let (port, protocol) = (Be16::new(service.port), service.protocol);
        let wide = service.address.address;
        let (word, bit) = if service.address.is_v4() {
            watch::port_bit(wide.0[0], port, protocol)
        } else {
            watch::port_bit(wide.0, port, protocol)
        };
        let filter = element(&WATCH, 0).expect(MISSING);
        field!(filter.served).at(word).fetch_or(bit);
        let _ = if service.address.is_v4() {
            SERVICE4.insert(ServiceKey { address: wide.0[0], port, protocol, pad: 0 }, id, 0)
        } else {
            SERVICE6.insert(ServiceKey { address: wide.0, port, protocol, pad: 0 }, id, 0)
        };
        if port == FTP {
            flags |= settings_flags::FTP;
        }
        if port.is_zero() {
            flags |= settings_flags::ANY_PORT;
        }
    }
    set(|settings| settings.flags |= flags);
}

fn service_config_of(service: &Service) -> ServiceConfig {
    ServiceConfig {
        flags: service.flags | service_flags::PRESENT,
        scheduler: service.scheduler as u8,
        pe: service.is_sip.into(),
        persist_timeout: service.timeout,
        netmask: service.netmask,
        own: service.own,
        ..ServiceConfig::default()
    }
}

/// Stages the removal of a service and its destinations.
pub fn remove_service(id: ServiceId) {
    for dest in list(id) {
        change_dest(dest, |config| config.flags = 0);
    }
    change_service(id, |config| *config = ServiceConfig::default());
}

/// Stages a new destination at the head of its service's list.
pub fn add_dest(service: ServiceId, id: DestId, destination: &Destination) {
    let slot = service_slot(service).get();
    dest_slot_of(id).store(Slot {
        switch: Switch::at(settings().get().epoch, 0),
        address: destination.address.address,
        port: Be16::new(destination.port),
        family: destination.address.family,
        slot: dest_slot::USED,
        service,
        service_serial: slot.serial,
        remote: 1,
        source: destination.source,
        ..Slot::default()
    });
    put_dest(service, id, destination);
}

/// Stages that a destination that was removed is back at the head of its service's list.
pub fn put_dest(service: ServiceId, id: DestId, destination: &Destination) {
    watch(destination.address, false);
    let head = service_config(service).head;
    configure_dest(service, id, destination);
    change_dest(id, |config| config.next = head);
    change_service(service, |config| {
        config.head = id;
        config.dest_count += 1;
    });
    refresh(service, Change::Added);
}

/// Stages a destination's configuration.
fn configure_dest(service: ServiceId, id: DestId, destination: &Destination) {
    let before = dest_config(id).upper;
    change_dest(id, |config| *config = dest_config_of(service, destination, config));
    if overload::edit_clears(before, destination.thresholds.0) {
        let slot = dest_slot_of(id);
        field!(slot.overloaded).store(0);
    }
}

fn dest_config_of(service: ServiceId, destination: &Destination, before: &DestConfig) -> DestConfig {
    let own = if service_config(service).own.has_timeouts() { dest_flags::OWN_TIMEOUTS } else { 0 };
    DestConfig {
        flags: dest_flags::AVAILABLE | own,
        weight: destination.weight,
        last_weight: if destination.weight == 0 { before.last_weight } else { destination.weight },
        next: before.next,
        upper: destination.thresholds.0,
        lower: destination.thresholds.1,
        forward: destination.forward.into(),
        tunnel: destination.tunnel,
        tunnel_flags: destination.tunnel_flags,
        pad: 0,
        tunnel_port: Be16::new(destination.tunnel_port),
        pad2: 0,
    }
}

/// Stages an edit of a destination.
pub fn edit_dest(service: ServiceId, id: DestId, destination: &Destination) {
    configure_dest(service, id, destination);
    refresh(service, Change::Edited);
}

/// Stages the removal of a destination from its service's list.
pub fn remove_dest(service: ServiceId, id: DestId) {
    let ids = list(service);
    let Some(at) = ids.iter().position(|other| *other == id) else { return };
    let predecessor = at.checked_sub(1).map_or(DestId::NONE, |before| ids[before]);
    let next = dest_config(id).next;
    if predecessor.is_none() {
        change_service(service, |config| config.head = next);
    } else {
        change_dest(predecessor, |config| config.next = next);
    }
    change_service(service, |config| config.dest_count -= 1);
    change_dest(id, |config| config.flags = 0);
    let settings = settings();
    if settings.get().sysctls.expire_nodest_conn != 0 {
        field!(settings.removal).store(settings.get().epoch + 1);
    }
    refresh(service, Change::Removed { dest: id, predecessor });
}

fn traits(scheduler: u8) -> &'static Traits {
    &SCHEDULERS[scheduler as usize].1
}

/// Stages what follows for the scheduler from a change, but for its table and its roster: see [`build`].
fn refresh(id: ServiceId, what: Change) {
    let traits = traits(service_config(id).scheduler);
    let ids = list(id);
    let (max, gcd) = change::weights(ids.iter().map(|dest| dest_config(*dest).weight));
    change_service(id, |config| {
        if traits.weights {
            (config.weight_max, config.weight_gcd) = (max, gcd);
        }
        config.sched_state = traits.state.map_or(0, |state| state(config, config.sched_state, what));
        config.roster = 0;
        config.table = 0;
    });
}

/// Stages the table and the roster of a service whose list has changed.
pub fn build(id: ServiceId) {
    let traits = traits(service_config(id).scheduler);
    let ids = list(id);
    if traits.scans && ids.len() > roster::SHORT as usize {
        let entry = |dest: DestId| RosterEntry { id: dest, weight: dest_config(dest).weight };
        let entries: Vec<RosterEntry> = ids.iter().map(|dest| entry(*dest)).filter(|entry| entry.weight != 0).collect();
        // Two halves in turn: packets may still read the one in force.
        let half = (settings().get().epoch as u32 & 1) * ROSTER;
        let first = 1 + id.get() * 2 * ROSTER + half;
        let places: Vec<u32> = (first..first + roster::parts(entries.len()) as u32).collect();
        for (place, part) in roster::build(id, &entries, &places) {
            element(&ROSTERS, place).expect(MISSING).store(part);
        }
        if let Some(first) = places.first() {
            change_service(id, |config| config.roster = *first);
        }
    }
    if let Some(table) = traits.table {
        let of = |dest: DestId| {
            let (slot, config) = (dest_slot_of(dest).get(), dest_config(dest));
            let DestConfig { weight, last_weight, .. } = config;
            TableDest { id: dest, weight, last_weight, address: slot.address, port: slot.port }
        };
        let dests: Vec<TableDest> = ids.into_iter().map(of).collect();
        if let Some(slots) = slots(service_config(id).scheduler, table, dests) {
            let place = 1 + id.get() * 2 + (settings().get().epoch as u32 & 1);
            TABLES.set(place, slots.to_vec().into());
            change_service(id, |config| config.table = place);
        }
    }
}

/// The slots of a hashing scheduler's table, if they fit. Tests build the same tables again and again, which takes longer than their
/// packets.
fn slots(scheduler: u8, table: BucketTable, dests: Vec<TableDest>) -> Option<Rc<[u32]>> {
    type Built = HashMap<(u8, Vec<TableDest>), Option<Rc<[u32]>>>;
    thread_local! {
        static BUILT: RefCell<Built> = RefCell::default();
    }
    const MOST: usize = 1024;
    BUILT.with_borrow_mut(|built| {
        if built.len() == MOST {
            built.clear();
        }
        let build = |(_, dests): &(u8, Vec<TableDest>)| {
            let (mut turns, mut slots) = (vec![Turns::default(); dests.len()], vec![DestId::NONE; table.slots]);
            let is_built = (table.build)(dests, &mut turns, &mut slots);
            is_built.then(|| slots.into_iter().map(DestId::get).collect())
        };
        built.entry((scheduler, dests)).or_insert_with_key(build).clone()
    })
}

/// Gives all services a pool of local addresses for FullNAT. They come into force at once, and are watched.
pub fn set_locals(addresses: &[Ip]) {
    let of = |family| (1..).zip(addresses).filter(move |(_, ip)| ip.family == family).map(|(id, _)| id);
    for (id, ip) in (1..).zip(addresses) {
        let local = LocalAddress { address: ip.address, family: ip.family.into(), pools: 1, ..LocalAddress::default() };
        element(&LOCALS, id).expect(MISSING).store(local);
        watch(*ip, true);
    }
    let mut table = vec![of(AF_INET).count() as u32, of(AF_INET6).count() as u32];
    assert_eq!(table.len(), POOL_HEAD as usize);
    table.extend(of(AF_INET).chain(of(AF_INET6)));
    TABLES.set(0xff, table.into());
    change_service(ServiceId::NONE, |config| config.locals = 0xff);
}
