//! Slots of services, destinations and schedulers' tables: which are free, and which deleted destinations can be revived.

use std::collections::HashMap;
use std::time::Duration;

use lvs_common::abi::{Counters, DestId, Rates, ServiceId, dest_flags, dest_slot, service_flags};

use super::convert;
use super::mapped::{field, put};
use super::plane::Plane;
use super::services::failed;
use crate::director::{Error, Result};
use crate::rules::{DestinationKey, ServiceKey};

/// Nanoseconds for which a deleted destination's slot is left alone, so that no packet still holds it.
pub const GRACE: u64 = 1_000_000_000;

/// Nanoseconds from one reading of the data plane's clock to the next.
const SWEEP: u64 = 1_000_000_000 / 16;

/// What is found by looking through all slots once, when it is needed and there is anything to be found. What was found
/// may have been given away since, so it is looked at again before use.
#[derive(Debug, Default)]
pub struct Slots {
    /// Whether the destinations' slots have been looked through.
    looked: bool,
    /// Deleted destinations that connections may still refer to.
    trash: HashMap<(ServiceKey, DestinationKey), DestId>,
    /// Slots of destinations that may be given away again, the lowest last.
    free: Vec<DestId>,
    /// When the youngest of the deleted destinations that nothing refers to may be given away, if that is still to come.
    rested: Option<u64>,
    /// Where to look for the next free slot of a service.
    service: ServiceId,
    /// Places for tables that no service's configuration refers to, the lowest last.
    tables: Vec<u32>,
}

impl Slots {
    /// Looks through the destinations' slots, unless that was done before or every used one is configured.
    fn look(&mut self, plane: &Plane) {
        if std::mem::replace(&mut self.looked, true) {
            return;
        }
        let settings = plane.settings();
        let mut idle = settings.idle_dests;
        for id in settings.idle_from.max(1)..settings.dests_used {
            if idle == 0 {
                break;
            }
            // One line of memory a slot, for there may be a hundred thousand.
            if field!(plane.dests, id, deleted) == 0 {
                continue;
            }
            idle -= 1;
            if is_configured(plane, id) {
                continue;
            }
            let dest = plane.dests.get(id);
            if dest.connections == 0 && dest.persistent == 0 {
                if settings.now_ns.saturating_sub(dest.deleted) > GRACE {
                    self.free.push(id);
                } else {
                    self.rested = self.rested.max(Some(dest.deleted + GRACE));
                }
            }
            if dest.slot == dest_slot::USED && field!(plane.services, dest.service, serial) == dest.service_serial {
                self.trash.insert(key_of(plane, id), id);
            }
        }
        self.free.reverse();
    }

    /// The deleted destination of this service with this address and port, to be revived.
    pub fn revive(&mut self, plane: &mut Plane, service: &ServiceKey, dest: &DestinationKey) -> Option<DestId> {
        self.look(plane);
        let key = (*service, *dest);
        let same = |id: &DestId| !is_configured(plane, *id) && key_of(plane, *id) == key;
        let id = self.trash.remove(&key).filter(same)?;
        plane.set(|s| s.idle_dests = s.idle_dests.saturating_sub(1));
        Some(id)
    }

    /// Remembers a destination that is deleted now.
    pub fn discard(&mut self, service: ServiceKey, dest: DestinationKey, id: DestId) {
        self.trash.insert((service, dest), id);
    }

    /// A free destination slot, `None` if the table is full.
    pub fn take_dest(&mut self, plane: &mut Plane) -> Option<DestId> {
        self.look(plane);
        let used = plane.settings().dests_used;
        while let Some(id) = self.free.pop() {
            if !is_configured(plane, id) {
                plane.set(|s| s.idle_dests = s.idle_dests.saturating_sub(1));
                give_back(plane, id);
                return Some(id);
            }
        }
        if used == plane.dests.count() {
            let rested = self.rested.take()?;
            // They are free as soon as they have rested, so it is worth the wait.
            let wait = rested.saturating_sub(field!(plane.settings, 0, now_ns)).min(GRACE) + SWEEP;
            std::thread::sleep(Duration::from_nanos(wait));
            self.looked = false;
            return self.take_dest(plane);
        }
        plane.set(|s| s.dests_used = used + 1);
        give_back(plane, used);
        Some(used)
    }

    /// A free service slot, `None` if the table is full.
    pub fn take_service(&mut self, plane: &mut Plane) -> Option<ServiceId> {
        let used = plane.settings().services_used;
        let count = plane.services.count();
        if used < count {
            plane.set(|s| s.services_used = used + 1);
            return Some(used);
        }
        let epochs = [plane.now(), plane.epoch()];
        let is_free = |id: &ServiceId| {
            let (switch, config) = (field!(plane.services, *id, switch), field!(plane.services, *id, config));
            epochs.iter().all(|epoch| config[switch.copy(*epoch)].flags & service_flags::PRESENT == 0)
        };
        let from = self.service.max(1);
        self.service = (from..count).chain(1..from).find(is_free)?;
        Some(self.service)
    }

    /// A place for a table. [`Error::NoMemory`] if all are taken.
    pub fn take_table(&mut self, plane: &Plane) -> Result<u32> {
        if self.tables.is_empty() {
            let mut taken = vec![false; plane.table_places().map_err(failed)? as usize];
            // Service 0, which is none, has the default pool.
            for id in 0..plane.settings().services_used {
                for config in field!(plane.services, id, config) {
                    for place in [config.table, config.locals] {
                        if let Some(taken) = taken.get_mut(place as usize) {
                            *taken = true;
                        }
                    }
                }
            }
            self.tables = (1..taken.len() as u32).rev().filter(|place| !taken[*place as usize]).collect();
        }
        self.tables.pop().ok_or(Error::NoMemory)
    }
}

/// What a destination is, or was.
fn key_of(plane: &Plane, id: DestId) -> (ServiceKey, DestinationKey) {
    let service = field!(plane.dests, id, service);
    (convert::service_key(&plane.services.get(service)), convert::dest_key(&plane.dests.get(id)))
}

/// Whether a destination is on its service's list, in force or staged.
fn is_configured(plane: &Plane, id: DestId) -> bool {
    let (switch, config) = (field!(plane.dests, id, switch), field!(plane.dests, id, config));
    let available = |epoch| config[switch.copy(epoch)].flags & dest_flags::AVAILABLE != 0;
    available(plane.now()) || available(plane.epoch())
}

/// What a slot's former destination counted goes to its service's account.
fn give_back(plane: &mut Plane, id: DestId) {
    let counted = plane.counted(id);
    let dest = plane.dests.get(id);
    if dest.slot == dest_slot::USED && field!(plane.services, dest.service, serial) == dest.service_serial {
        let folded = field!(plane.services, dest.service, folded);
        put!(plane.services, dest.service, folded, folded.plus(counted.since(dest.origin)));
    }
    // Nothing refers to the element any more.
    put!(plane.dests, id, slot, dest_slot::FREE);
    put!(plane.dests, id, origin, counted);
    put!(plane.dests, id, base, counted);
    put!(plane.dest_rates, id, average, Rates::default().average);
}

/// Counters of a destination since they were zeroed.
pub fn dest_statistics(plane: &Plane, id: DestId, base: Counters) -> Counters {
    plane.counted(id).since(base)
}
