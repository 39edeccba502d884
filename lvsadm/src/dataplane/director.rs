//! The director made of the data plane's maps.

use lvs_common::abi::{Counters, Forward, ServiceId, service_flags};
use lvs_common::sched::change::Change;
use lvs_common::state::tcp;

use super::convert;
use super::plane::Plane;
use super::services::failed;
use super::slots::Slots;
use crate::director::{Director, Error, Result, Wanted};
use crate::rules::{Connection, Destination, DestinationKey, Service, ServiceEntry, ServiceKey, Timeouts, check};

/// Buckets that ipvsadm's first line tells: IPVS's default, which scripts may know; the real table is `lvsadm status`'s.
const TABLE_SIZE: u32 = 4096;

/// See the module.
#[derive(Debug)]
pub struct PlaneDirector {
    plane: Plane,
    slots: Option<Slots>,
    grouping: bool,
    /// Services deleted since the last switch: their keys leave the index behind it.
    gone: Vec<ServiceId>,
}

impl PlaneDirector {
    /// A director on a loaded data plane.
    pub fn new(plane: Plane) -> Self {
        PlaneDirector { plane, slots: None, grouping: false, gone: Vec::new() }
    }

    fn find(&self, key: &ServiceKey) -> Result<ServiceId> {
        self.plane.find_service(key)?.ok_or(Error::NoService)
    }

    /// Makes a change: stages it, and switches unless changes are grouped. An error before the switch undoes it.
    fn change(&mut self, change: impl FnOnce(&mut Plane, &mut Slots, &mut Vec<ServiceId>) -> Result<()>) -> Result<()> {
        let slots = self.slots.get_or_insert_with(|| Slots::of(&self.plane));
        if !self.plane.is_staging() {
            self.plane.stage();
        }
        change(&mut self.plane, slots, &mut self.gone)?;
        if self.grouping { Ok(()) } else { self.switch() }
    }

    fn switch(&mut self) -> Result<()> {
        if !self.plane.is_staging() {
            return Ok(());
        }
        self.plane.switch();
        for id in std::mem::take(&mut self.gone) {
            let slot = self.plane.services.get(id);
            self.plane.forget_service(id, &slot).map_err(failed)?;
        }
        if self.plane.service_ids().is_empty() {
            self.plane.set(|s| s.flags = 0);
        }
        Ok(())
    }
}

/// Stages the deletion of a service and its destinations.
fn remove(plane: &mut Plane, slots: &mut Slots, gone: &mut Vec<ServiceId>, key: &ServiceKey, id: ServiceId) {
    for dest in plane.list(id) {
        slots.discard(*key, convert::dest_key(&plane.dests.get(dest)), dest);
        plane.retire_dest(dest);
    }
    plane.change_service(id, |config| config.flags &= !service_flags::PRESENT);
    slots.services.remove(key);
    gone.push(id);
}

impl Director for PlaneDirector {
    fn add_service(&mut self, service: &Service) -> Result<()> {
        if self.plane.find_service(&service.key)?.is_some() {
            return Err(Error::Exists);
        }
        check::service(service)?;
        self.change(|plane, slots, _| {
            let id = slots.take_service(plane).ok_or(Error::NoMemory)?;
            let serial = u64::from(plane.settings().services_used).max(newest(plane) + 1);
            plane.write_service(id, service, serial).map_err(failed)?;
            slots.services.insert(service.key, id);
            Ok(())
        })
    }

    fn edit_service(&mut self, service: &Service) -> Result<()> {
        let id = self.find(&service.key)?;
        check::service(service)?;
        self.change(|plane, _, _| {
            let before = plane.service_config(id);
            let mut after = convert::service_config(service);
            (after.head, after.dest_count) = (before.head, before.dest_count);
            (after.table, after.sched_state, after.timeouts) = (before.table, before.sched_state, before.timeouts);
            (after.weight_gcd, after.weight_max) = (before.weight_gcd, before.weight_max);
            let other = after.scheduler != before.scheduler;
            plane.change_service(id, |config| *config = after);
            if other { plane.refresh(id, Change::Attached) } else { Ok(()) }
        })
    }

    fn delete_service(&mut self, key: &ServiceKey) -> Result<()> {
        let id = self.find(key)?;
        self.change(|plane, slots, gone| {
            remove(plane, slots, gone, key, id);
            Ok(())
        })?;
        self.plane.prune_watch();
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let ids = self.plane.service_ids();
        if ids.is_empty() {
            return Ok(());
        }
        self.change(|plane, slots, gone| {
            for id in ids {
                let key = convert::service_key(&plane.services.get(id));
                remove(plane, slots, gone, &key, id);
            }
            Ok(())
        })?;
        self.plane.prune_watch();
        Ok(())
    }

    fn zero(&mut self, key: Option<&ServiceKey>) -> Result<()> {
        let ids = match key {
            Some(key) => vec![self.find(key)?],
            None => self.plane.service_ids(),
        };
        for id in ids {
            let counted = self.plane.service_counted(id);
            // SAFETY: fields of elements.
            unsafe {
                (&raw mut (*self.plane.services.at(id)).base).write_volatile(counted);
                (&raw mut (*self.plane.service_rates.at(id)).average).write_volatile([0; 5]);
            }
            for dest in self.plane.list(id) {
                let counted = self.plane.counted(dest);
                // SAFETY: as above.
                unsafe {
                    (&raw mut (*self.plane.dests.at(dest)).base).write_volatile(counted);
                    (&raw mut (*self.plane.dest_rates.at(dest)).average).write_volatile([0; 5]);
                }
            }
        }
        Ok(())
    }

    fn add_destination(&mut self, service: &ServiceKey, destination: &Destination) -> Result<()> {
        let id = self.find(service)?;
        check::destination(service, destination)?;
        refuse_fullnat(destination)?;
        if self.plane.find_dest(id, &destination.key).is_some() {
            return Err(Error::Exists);
        }
        check::real_server_address(destination.key.address)?;
        self.change(|plane, slots, _| plane.write_dest(id, service, destination, slots))
    }

    fn edit_destination(&mut self, service: &ServiceKey, destination: &Destination) -> Result<()> {
        let id = self.find(service)?;
        check::destination(service, destination)?;
        refuse_fullnat(destination)?;
        let dest = self.plane.find_dest(id, &destination.key).ok_or(Error::NotFound)?;
        self.change(|plane, _, _| plane.rewrite_dest(id, dest, destination))
    }

    fn delete_destination(&mut self, service: &ServiceKey, destination: &DestinationKey) -> Result<()> {
        let id = self.find(service)?;
        let dest = self.plane.find_dest(id, destination).ok_or(Error::NotFound)?;
        self.change(|plane, slots, _| {
            slots.discard(*service, *destination, dest);
            plane.unlink_dest(id, dest)
        })?;
        self.plane.prune_watch();
        Ok(())
    }

    fn services(&self, wanted: Wanted) -> Result<Vec<ServiceEntry>> {
        let deleted = if wanted.statistics { self.plane.deleted_counts() } else { Default::default() };
        let none = Counters::default();
        let entry = |id: ServiceId| self.plane.entry(id, wanted, deleted.get(&id).unwrap_or(&none));
        Ok(self.plane.service_ids().into_iter().map(entry).collect())
    }

    fn service(&self, key: &ServiceKey, wanted: Wanted) -> Result<ServiceEntry> {
        let id = self.find(key)?;
        let deleted = if wanted.statistics { self.plane.deleted_counts() } else { Default::default() };
        Ok(self.plane.entry(id, wanted, deleted.get(&id).unwrap_or(&Counters::default())))
    }

    fn timeouts(&self) -> Result<Timeouts> {
        let t = self.plane.settings().timeouts;
        Ok(Timeouts {
            tcp: t.tcp[usize::from(tcp::ESTABLISHED)],
            tcp_fin: t.tcp[usize::from(tcp::FIN_WAIT)],
            udp: t.udp,
        })
    }

    fn set_timeouts(&mut self, timeouts: Timeouts) -> Result<()> {
        self.plane.set(|s| {
            let set = |target: &mut u32, value: u32| {
                if value != 0 {
                    *target = value;
                }
            };
            set(&mut s.timeouts.tcp[usize::from(tcp::ESTABLISHED)], timeouts.tcp);
            set(&mut s.timeouts.tcp[usize::from(tcp::FIN_WAIT)], timeouts.tcp_fin);
            set(&mut s.timeouts.udp, timeouts.udp);
        });
        Ok(())
    }

    fn connections(&self, visit: &mut dyn FnMut(&Connection)) -> Result<()> {
        self.plane.each_connection(visit);
        Ok(())
    }

    fn table_size(&self) -> Result<u32> {
        Ok(TABLE_SIZE)
    }

    fn begin(&mut self) -> Result<()> {
        self.grouping = true;
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        self.grouping = false;
        self.switch()
    }
}

/// The grammar knows FullNAT; this data plane does not forward so yet.
fn refuse_fullnat(destination: &Destination) -> Result<()> {
    if destination.forward == Forward::FullNat {
        return Err(Error::Other("this build does not forward by FullNAT: use -m, -g or -i".into()));
    }
    Ok(())
}

/// The greatest serial of a service so far.
fn newest(plane: &Plane) -> u64 {
    (1..plane.settings().services_used).map(|id| plane.services.get(id).serial).max().unwrap_or(0)
}
