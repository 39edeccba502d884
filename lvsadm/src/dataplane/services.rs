//! Virtual services in the maps.

use anyhow::Context;
use lvs_common::abi::{
    AF_INET, Address, DestId, FwmarkKey, Rates, Scheduler, Service as Slot, ServiceId, ServiceKey as Key, Switch,
    dest_flags, service_flags, settings_flags,
};
use lvs_common::sched::change::{self, Change};
use lvs_common::sched::{TableDest, dh, mh, sh};
use lvs_common::watch;

use super::convert;
use super::plane::{Plane, absent};
use super::pod::Pod;
use crate::director::{Error, Result};
use crate::rules::{Service, ServiceKey};

/// Port of FTP.
const FTP: u16 = 21;

/// An error of the maps, told in one line.
pub fn failed(error: anyhow::Error) -> Error {
    Error::Other(format!("{error:#}"))
}

impl Plane {
    /// The service of a key, if it is configured.
    pub fn find_service(&self, key: &ServiceKey) -> Result<Option<ServiceId>> {
        let found = match *key {
            ServiceKey::Address { protocol, address, port } => {
                let wide = convert::address(address);
                let (port, protocol) = (port.to_be(), protocol as u8);
                if address.is_ipv4() {
                    self.service4.get(&Pod(Key { address: wide.0[0], port, protocol, pad: 0 }), 0)
                } else {
                    self.service6.get(&Pod(Key { address: wide.0, port, protocol, pad: 0 }), 0)
                }
            }
            ServiceKey::Fwmark { mark, family } => {
                self.fwmarks.get(&Pod(FwmarkKey { mark, family: u32::from(family.number()) }), 0)
            }
        };
        match found {
            Ok(id) if self.service_config(id).flags & service_flags::PRESENT != 0 => Ok(Some(id)),
            Ok(_) => Ok(None),
            Err(error) if absent(&error) => Ok(None),
            Err(error) => Err(failed(anyhow::Error::new(error).context("cannot look a service up"))),
        }
    }

    /// Enters a service's key, or takes it out.
    fn index(&mut self, key: &ServiceKey, id: Option<ServiceId>) -> anyhow::Result<()> {
        macro_rules! put {
            ($map:expr, $key:expr) => {
                match id {
                    Some(id) => $map.insert($key, id, 0),
                    None => $map.remove(&$key),
                }
            };
        }
        let result = match *key {
            ServiceKey::Address { protocol, address, port } => {
                let wide = convert::address(address);
                let (port, protocol) = (port.to_be(), protocol as u8);
                if address.is_ipv4() {
                    put!(self.service4, Pod(Key { address: wide.0[0], port, protocol, pad: 0 }))
                } else {
                    put!(self.service6, Pod(Key { address: wide.0, port, protocol, pad: 0 }))
                }
            }
            ServiceKey::Fwmark { mark, family } => {
                put!(self.fwmarks, Pod(FwmarkKey { mark, family: u32::from(family.number()) }))
            }
        };
        match result {
            Err(error) if id.is_none() && absent(&error) => Ok(()),
            other => other.context("cannot enter a service"),
        }
    }

    /// Takes keys out of the index whose services are not configured: what a deletion leaves until it is in force.
    pub fn sweep_index(&mut self) -> anyhow::Result<()> {
        for id in 1..self.settings().services_used {
            if self.service_config(id).flags & service_flags::PRESENT == 0 {
                let slot = self.services.get(id);
                if slot.serial != 0 {
                    self.forget_service(id, &slot)?;
                }
            }
        }
        Ok(())
    }

    /// Takes the key of a deleted service out of the index, unless another service has it by now.
    pub fn forget_service(&mut self, id: ServiceId, slot: &Slot) -> anyhow::Result<()> {
        let key = convert::service_key(slot);
        let holder = match key {
            ServiceKey::Address { protocol, port, .. } => {
                let (port, protocol) = (port.to_be(), protocol as u8);
                if slot.family == AF_INET {
                    self.service4.get(&Pod(Key { address: slot.address.0[0], port, protocol, pad: 0 }), 0)
                } else {
                    self.service6.get(&Pod(Key { address: slot.address.0, port, protocol, pad: 0 }), 0)
                }
            }
            ServiceKey::Fwmark { mark, family } => {
                self.fwmarks.get(&Pod(FwmarkKey { mark, family: u32::from(family.number()) }), 0)
            }
        };
        if holder.is_ok_and(|holder| holder == id) { self.index(&key, None) } else { Ok(()) }
    }

    /// Stages a new service in slot `id`.
    pub fn write_service(&mut self, id: ServiceId, service: &Service, serial: u64) -> anyhow::Result<()> {
        let family = service.key.family().number();
        let (address, port, protocol, fwmark) = match service.key {
            ServiceKey::Address { protocol, address, port } => (convert::address(address), port, protocol as u8, 0),
            ServiceKey::Fwmark { mark, .. } => (Address::default(), 0, 0, mark),
        };
        let slot = Slot {
            // Not configured until the switch.
            switch: Switch::at(self.settings().epoch, 0),
            address,
            port: port.to_be(),
            protocol,
            family,
            fwmark,
            serial,
            ..Slot::default()
        };
        self.services.set(id, slot);
        let rates: *mut Rates = self.service_rates.at(id);
        // SAFETY: fields of the element.
        unsafe { (&raw mut (*rates).average).write_volatile([0; 5]) }
        let config = convert::service_config(service);
        self.change_service(id, |c| *c = config);
        self.refresh(id, Change::Attached).map_err(|error| anyhow::anyhow!("{error:?}"))?;
        self.watch_service(&service.key);
        self.index(&service.key, Some(id))
    }

    /// Has packets for a service looked at.
    fn watch_service(&mut self, key: &ServiceKey) {
        let flag = match *key {
            ServiceKey::Fwmark { .. } => {
                self.watch_everything();
                settings_flags::FWMARK
            }
            ServiceKey::Address { address, port, .. } => {
                self.watch_address(convert::address(address), key.family().number(), true);
                match port {
                    FTP => settings_flags::FTP,
                    0 => settings_flags::ANY_PORT,
                    _ => 0,
                }
            }
        };
        self.set(|s| s.flags |= flag | settings_flags::ANY);
    }

    /// A mark can be on any packet.
    fn watch_everything(&mut self) {
        let target = self.watch.at(0).cast::<u64>();
        for at in 0..2048 {
            // SAFETY: a word of the element.
            unsafe { target.add(at).write_volatile(u64::MAX) }
        }
    }

    /// Has packets from an address, and to it if it is virtual, looked at.
    pub fn watch_address(&mut self, address: Address, family: u8, is_virtual: bool) {
        let (word, bit) = if family == AF_INET { watch::bit(address.0[0]) } else { watch::bit(address.0) };
        let target = self.watch.at(0);
        // SAFETY: words of the element; `word` is less than 1024.
        unsafe {
            let reply = (&raw mut (*target).reply).cast::<u64>().add(word);
            reply.write_volatile(reply.read_volatile() | bit);
            if is_virtual {
                let virt = (&raw mut (*target).virt).cast::<u64>().add(word);
                virt.write_volatile(virt.read_volatile() | bit);
            }
        }
    }

    /// The destinations of a service, newest first.
    pub fn list(&self, id: ServiceId) -> Vec<DestId> {
        let config = self.service_config(id);
        let mut ids = Vec::with_capacity(config.dest_count as usize);
        let mut at = config.head;
        while at != 0 && at < self.dests.count() && ids.len() < config.dest_count as usize {
            ids.push(at);
            at = self.dest_config(at).next;
        }
        ids
    }

    /// Stages what follows for the scheduler from a change of a service or its destinations.
    pub fn refresh(&mut self, id: ServiceId, what: Change) -> Result<()> {
        let ids = self.list(id);
        let configs: Vec<_> = ids.iter().map(|dest| self.dest_config(*dest)).collect();
        let (max, gcd) = change::weights(configs.iter().map(|c| c.weight));
        let scheduler = self.service_config(id).scheduler;
        let dests: Vec<TableDest> = ids
            .iter()
            .zip(&configs)
            .map(|(id, config)| {
                let slot = self.dests.get(*id);
                let (address, port) = (slot.address, slot.port);
                TableDest { id: *id, weight: config.weight, last_weight: config.last_weight, address, port }
            })
            .collect();
        let table = match table_of(scheduler, &dests)? {
            Some(slots) => {
                let place = self.free_table().ok_or(Error::NoMemory)?;
                self.put_table(place, &slots).map_err(failed)?;
                place
            }
            None => 0,
        };
        self.change_service(id, |config| {
            config.weight_max = max;
            config.weight_gcd = gcd;
            config.table = table;
            config.sched_state = change::state(config, config.sched_state, what);
        });
        Ok(())
    }

    /// A place for a table that no service's configuration refers to.
    fn free_table(&self) -> Option<u32> {
        let mut taken = vec![false; self.table_places() as usize];
        for id in 1..self.settings().services_used {
            for config in self.services.get(id).config {
                if let Some(place) = taken.get_mut(config.table as usize) {
                    *place = true;
                }
            }
        }
        (1..taken.len()).find(|place| !taken[*place]).map(|place| place as u32)
    }

    /// Clears bits of the watch filter that nothing needs any more.
    pub fn prune_watch(&mut self) {
        let settings = self.settings();
        if settings.flags & settings_flags::FWMARK != 0 {
            return;
        }
        let before = self.watch.get(0);
        let mut needed = lvs_common::abi::Watch { virt: [0; 1024], reply: [0; 1024] };
        let mut mark = |address: Address, family: u8, is_virtual: bool| {
            let (word, bit) = if family == AF_INET { watch::bit(address.0[0]) } else { watch::bit(address.0) };
            needed.reply[word] |= bit;
            if is_virtual {
                needed.virt[word] |= bit;
            }
        };
        for id in 1..settings.services_used {
            if self.service_config(id).flags & service_flags::PRESENT != 0 {
                let slot = self.services.get(id);
                mark(slot.address, slot.family, true);
            }
        }
        for id in 1..settings.dests_used {
            let dest = self.dests.get(id);
            let busy = dest.connections != 0 || dest.persistent != 0;
            if busy || self.dest_config(id).flags & dest_flags::AVAILABLE != 0 {
                mark(dest.address, dest.family, false);
                let service = self.services.get(dest.service);
                mark(service.address, service.family, true);
            }
        }
        let target = self.watch.at(0);
        for at in 0..1024 {
            // SAFETY: words of the element.
            unsafe {
                if before.virt[at] != needed.virt[at] {
                    (&raw mut (*target).virt).cast::<u64>().add(at).write_volatile(needed.virt[at]);
                }
                if before.reply[at] != needed.reply[at] {
                    (&raw mut (*target).reply).cast::<u64>().add(at).write_volatile(needed.reply[at]);
                }
            }
        }
    }
}

/// The slots of a hashing scheduler's table, `None` for the others.
fn table_of(scheduler: u8, dests: &[TableDest]) -> Result<Option<Vec<DestId>>> {
    const DH: u8 = Scheduler::Dh as u8;
    const SH: u8 = Scheduler::Sh as u8;
    const MH: u8 = Scheduler::Mh as u8;
    Ok(match scheduler {
        DH => {
            let mut slots = vec![0; dh::BUCKETS];
            dh::build(dests, &mut slots);
            Some(slots)
        }
        SH => {
            let mut slots = vec![0; sh::BUCKETS];
            sh::build(dests, &mut slots);
            Some(slots)
        }
        MH => {
            let mut slots = Box::new([0; mh::SLOTS]);
            let mut turns = vec![mh::Turns::default(); dests.len()];
            if !mh::build(dests, &mut turns, &mut slots) {
                return Err(Error::Invalid);
            }
            Some(slots.to_vec())
        }
        _ => None,
    })
}
