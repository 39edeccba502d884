//! Slots of services and destinations: which are free, and which deleted destinations can be revived.

use std::collections::HashMap;

use lvs_common::abi::{Counters, DestId, Destination, Rates, ServiceId, dest_flags, dest_slot, service_flags};

use super::convert;
use super::plane::Plane;
use crate::rules::{DestinationKey, ServiceKey};

/// Nanoseconds for which a deleted destination's slot is left alone, so that no packet still holds it.
const GRACE: u64 = 1_000_000_000;

/// What is found by looking through all slots once.
#[derive(Debug, Default)]
pub struct Slots {
    /// Services by key.
    pub services: HashMap<ServiceKey, ServiceId>,
    /// Deleted destinations that connections may still refer to.
    trash: HashMap<(ServiceKey, DestinationKey), DestId>,
    /// Slots that may be given away again.
    free: Vec<DestId>,
}

impl Slots {
    /// Looks through all slots.
    pub fn of(plane: &Plane) -> Self {
        let mut slots = Slots::default();
        let settings = plane.settings();
        for id in 1..settings.services_used {
            if plane.service_config(id).flags & service_flags::PRESENT != 0 {
                slots.services.insert(convert::service_key(&plane.services.get(id)), id);
            }
        }
        for id in 1..settings.dests_used {
            let dest = plane.dests.get(id);
            if is_configured(plane, &dest) {
                continue;
            }
            if can_be_reused(&dest, settings.now_ns) {
                slots.free.push(id);
            }
            let service = plane.services.get(dest.service);
            if dest.slot == dest_slot::USED && service.serial == dest.service_serial {
                slots.trash.insert((convert::service_key(&service), convert::dest_key(&dest)), id);
            }
        }
        // The lowest first.
        slots.free.reverse();
        slots
    }

    /// The deleted destination of this service with this address and port, to be revived.
    pub fn revive(&mut self, service: &ServiceKey, dest: &DestinationKey) -> Option<DestId> {
        let id = self.trash.remove(&(*service, *dest))?;
        self.free.retain(|free| *free != id);
        Some(id)
    }

    /// Remembers a destination that is deleted now.
    pub fn discard(&mut self, service: ServiceKey, dest: DestinationKey, id: DestId) {
        self.trash.insert((service, dest), id);
    }

    /// A free destination slot, `None` if the table is full.
    pub fn take_dest(&mut self, plane: &mut Plane) -> Option<DestId> {
        let used = plane.settings().dests_used;
        let id = match self.free.pop() {
            Some(id) => id,
            None if used < plane.dests.count() => {
                plane.set(|s| s.dests_used = used + 1);
                used
            }
            None => return None,
        };
        self.trash.retain(|_, trash| *trash != id);
        give_back(plane, id);
        Some(id)
    }

    /// A free service slot, `None` if the table is full.
    pub fn take_service(&mut self, plane: &mut Plane) -> Option<ServiceId> {
        let used = plane.settings().services_used;
        let count = plane.services.count();
        let id = if used < count {
            plane.set(|s| s.services_used = used + 1);
            used
        } else {
            let is_free = |id: &ServiceId| {
                let configs = plane.services.get(*id).config;
                configs.iter().all(|config| config.flags & service_flags::PRESENT == 0)
            };
            (1..count).find(is_free)?
        };
        Some(id)
    }
}

/// Whether a destination is on its service's list, in the configuration that is looked at.
fn is_configured(plane: &Plane, dest: &Destination) -> bool {
    let now = plane.settings().epoch;
    let epochs = [now, plane.epoch()];
    epochs.iter().any(|epoch| dest.config[dest.switch.copy(*epoch)].flags & dest_flags::AVAILABLE != 0)
}

/// Whether nothing refers to a deleted destination any more.
fn can_be_reused(dest: &Destination, now: u64) -> bool {
    dest.connections == 0 && dest.persistent == 0 && now.saturating_sub(dest.deleted) > GRACE
}

/// What a slot's former destination counted goes to its service's account.
fn give_back(plane: &mut Plane, id: DestId) {
    let counted = plane.counted(id);
    let dest = plane.dests.get(id);
    if dest.slot == dest_slot::USED {
        let mut service = plane.services.get(dest.service);
        if service.serial == dest.service_serial {
            service.folded = service.folded.plus(counted.since(dest.origin));
            // SAFETY: a field of the element.
            unsafe { (&raw mut (*plane.services.at(dest.service)).folded).write_volatile(service.folded) }
        }
    }
    // SAFETY: fields of the element, which nothing refers to.
    unsafe {
        let target = plane.dests.at(id);
        (&raw mut (*target).slot).write_volatile(dest_slot::FREE);
        (&raw mut (*target).origin).write_volatile(counted);
        (&raw mut (*target).base).write_volatile(counted);
        let rates: *mut Rates = plane.dest_rates.at(id);
        (&raw mut (*rates).average).write_volatile([0; 5]);
    }
}

/// Counters of a destination since they were zeroed.
pub fn dest_statistics(plane: &Plane, id: DestId, dest: &Destination) -> Counters {
    plane.counted(id).since(dest.base)
}
