//! Virtual services in the maps.

use lvs_common::abi::{
    AF_INET, Address, DestId, FwmarkKey, Rates, Service as Slot, ServiceId, ServiceKey as Key, Switch, service_flags,
};
use lvs_common::byte_order::Be16;
use lvs_common::sched::change::{self, Change};
use lvs_common::sched::{TableDest, Traits, Turns};

use super::convert;
use super::error::{self, Context};
use super::mapped::{field, put};
use super::plane::{Plane, absent};
use super::pod::Pod;
use super::slots::Slots;
use crate::director::{Error, Result};
use crate::rules::{self, Service, ServiceKey};

/// Tables that are put into their places together: each is an open file until it is.
const TABLES_AT_ONCE: usize = 256;

impl Plane {
    /// Whether a service is configured.
    pub fn is_present(&self, id: ServiceId) -> bool {
        self.service_config(id).flags & service_flags::PRESENT != 0
    }

    /// Whether there is any.
    pub fn has_services(&self) -> bool {
        self.settings().service_slots().any(|id| self.is_present(id))
    }

    /// The service of a key, if it is configured.
    pub fn find_service(&self, key: &ServiceKey) -> Result<Option<ServiceId>> {
        let found = match *key {
            ServiceKey::Address { protocol, address, port } => {
                let wide = convert::address(address);
                let (port, protocol) = (Be16::new(port), protocol as u8);
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
            Ok(Pod(id)) if self.is_present(id) => Ok(Some(id)),
            Ok(_) => Ok(None),
            Err(error) if absent(&error) => Ok(None),
            Err(error) => Err(error).context("cannot look a service up").map_err(Error::from),
        }
    }

    /// Enters a service's key, or takes it out.
    fn index(&mut self, key: &ServiceKey, id: Option<ServiceId>) -> error::Result<()> {
        macro_rules! put {
            ($map:expr, $key:expr) => {
                match id {
                    Some(id) => $map.insert($key, Pod(id), 0),
                    None => $map.remove(&$key),
                }
            };
        }
        let result = match *key {
            ServiceKey::Address { protocol, address, port } => {
                let wide = convert::address(address);
                let (port, protocol) = (Be16::new(port), protocol as u8);
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
    pub fn sweep_index(&mut self) -> error::Result<()> {
        for id in self.settings().service_slots() {
            if !self.is_present(id) && field!(self.services, id, serial) != 0 {
                self.forget_service(id)?;
            }
        }
        Ok(())
    }

    /// Takes the key of a deleted service out of the index, unless another service has it by now.
    pub fn forget_service(&mut self, id: ServiceId) -> error::Result<()> {
        let slot = &self.services.get(id);
        let key = convert::service_key(slot);
        let holder = match key {
            ServiceKey::Address { protocol, port, .. } => {
                let (port, protocol) = (Be16::new(port), protocol as u8);
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
        if holder.is_ok_and(|Pod(holder)| holder == id) { self.index(&key, None) } else { Ok(()) }
    }

    /// Stages a new service in slot `id`.
    pub fn write_service(&mut self, id: ServiceId, service: &Service, serial: u64) -> error::Result<()> {
        let family = service.key.family().number();
        self.need_family(family != AF_INET)?;
        let (address, port, protocol, fwmark) = match service.key {
            ServiceKey::Address { protocol, address, port } => (convert::address(address), port, protocol as u8, 0),
            ServiceKey::Fwmark { mark, .. } => (Address::default(), 0, 0, mark),
        };
        let slot = Slot {
            // Not configured until the switch.
            switch: Switch::at(self.now(), 0),
            address,
            port: Be16::new(port),
            protocol,
            family,
            fwmark,
            serial,
            ..Slot::default()
        };
        self.services.set(id, slot);
        put!(self.service_rates, id, average, Rates::default().average);
        let config = convert::service_config(service);
        self.change_service(id, |c| *c = config);
        self.refresh(id, Change::Attached);
        self.watch_service(&service.key);
        self.index(&service.key, Some(id))
    }

    /// The destinations of a service, newest first.
    pub fn list(&self, id: ServiceId) -> Vec<DestId> {
        let config = self.service_config(id);
        let mut ids = Vec::with_capacity(config.dest_count as usize);
        let mut at = config.head;
        while at.is_some() && at.get() < self.dests.count() && ids.len() < config.dest_count as usize {
            ids.push(at);
            at = self.dest_config(at).next;
        }
        ids
    }

    /// Stages what follows for the scheduler from a change of a service or its destinations, but for its table and its
    /// roster: see [`Self::build_tables`] and [`Self::build_rosters`].
    pub fn refresh(&mut self, id: ServiceId, what: Change) {
        let traits = traits_of(self.service_config(id).scheduler);
        if traits.table.is_some() {
            self.tables_due.insert(id);
        }
        if traits.scans {
            self.rosters_due.insert(id);
        }
        let weights = traits.weights.then(|| self.weights(id, what));
        self.change_service(id, |config| {
            if let Some(weights) = weights {
                (config.weight_max, config.weight_gcd) = weights;
            }
            if traits.table.is_none() {
                config.table = 0;
            }
            config.roster = 0;
            config.sched_state = traits.state.map_or(0, |state| state(config, config.sched_state, what));
        });
    }

    /// Greatest weight and divisor of a service's list after a change. What one destination more does to them shows
    /// without a look at the others.
    fn weights(&self, id: ServiceId, what: Change) -> (u32, u32) {
        let config = self.service_config(id);
        let weight = |dest| self.dest_config(dest).weight;
        if what == Change::Added && config.weight_max != 0 {
            let newest = weight(config.head);
            return (config.weight_max.max(newest), change::weights([config.weight_gcd, newest].into_iter()).1);
        }
        change::weights(self.list(id).into_iter().map(weight))
    }

    /// Stages the tables of hashing schedulers that changes made necessary, each once for however many changes.
    pub fn build_tables(&mut self, slots: &mut Slots) -> Result<()> {
        let due: Vec<ServiceId> = std::mem::take(&mut self.tables_due).into_iter().collect();
        for ids in due.chunks(TABLES_AT_ONCE) {
            let mut tables = Vec::with_capacity(ids.len());
            for &id in ids {
                if !self.is_present(id) {
                    continue;
                }
                let dests: Vec<TableDest> = self.list(id).into_iter().map(|dest| self.table_dest(dest)).collect();
                let Some(table) = table_of(self.service_config(id).scheduler, &dests)? else { continue };
                let place = slots.take_table(self)?;
                self.change_service(id, |config| config.table = place);
                tables.push((place, table.into_iter().map(DestId::get).collect()));
            }
            self.put_tables(&tables).map_err(Error::from)?;
        }
        Ok(())
    }

    fn table_dest(&self, id: DestId) -> TableDest {
        let config = self.dest_config(id);
        let (address, port) = (field!(self.dests, id, address), field!(self.dests, id, port));
        TableDest { id, weight: config.weight, last_weight: config.last_weight, address, port }
    }
}

/// Whether a scheduler can hold so many destinations.
pub fn check_count(scheduler: u8, count: u32) -> Result<()> {
    match traits_of(scheduler).table {
        Some(table) if count as usize > table.most => Err(Error::Invalid),
        _ => Ok(()),
    }
}

/// What a scheduler is, by its number.
fn traits_of(scheduler: u8) -> &'static Traits {
    rules::traits(rules::scheduler_by_number(scheduler).unwrap_or_default())
}

/// The slots of a hashing scheduler's table, `None` for the others.
fn table_of(scheduler: u8, dests: &[TableDest]) -> Result<Option<Vec<DestId>>> {
    let Some(table) = traits_of(scheduler).table else { return Ok(None) };
    let (mut turns, mut slots) = (vec![Turns::default(); dests.len()], vec![DestId::NONE; table.slots]);
    if (table.build)(dests, &mut turns, &mut slots) { Ok(Some(slots)) } else { Err(Error::Invalid) }
}
