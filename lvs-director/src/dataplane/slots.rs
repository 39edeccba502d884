//! Slots of services, destinations and schedulers' tables: which are free, and which deleted destinations can be revived.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use lvs_common::abi::{Counters, DestId, Idle, Rates, ServiceId, dest_flags, dest_slot, service_flags};

use super::convert;
use super::mapped::{field, put};
use super::plane::Plane;
use crate::director::{Error, Result};
use crate::rules::{DestinationKey, ServiceKey};

/// Nanoseconds for which a deleted destination's slot is left alone, so that no packet still holds it.
pub const GRACE: u64 = 1_000_000_000;

/// Nanoseconds from one reading of the data plane's clock to the next.
const SWEEP: u64 = 1_000_000_000 / 16;

/// What is found by looking through the deleted destinations once, when it is needed. What was found may have been given
/// away since, so it is looked at again before use.
#[derive(Debug, Default)]
pub struct Slots {
    /// Whether they have been looked through.
    looked: bool,
    /// Deleted destinations that connections may still refer to, by the hash of what they were.
    trash: Vec<(u32, DestId)>,
    /// Those that were deleted by this process.
    discarded: HashMap<(ServiceKey, DestinationKey), DestId>,
    /// Slots that have rested and may be given away again, the lowest last.
    free: Vec<DestId>,
    /// Whether there are some that have not rested yet.
    restless: bool,
    /// Where to look for the next free slot of a service.
    service: ServiceId,
    /// Places for tables that no service's configuration refers to, the lowest last.
    tables: Vec<u32>,
    /// Local addresses of pools that are staged: nothing else tells yet that they are in use.
    pub locals: HashSet<u32>,
}

impl Plane {
    /// Slots of destinations that are deleted, the highest first: what was added last is often deleted first, so in a full table few
    /// slots are looked at.
    pub fn idle_dests(&self) -> impl Iterator<Item = DestId> + '_ {
        let settings = self.settings();
        let idle = settings.dest_slots().rev().filter(|id| self.idle.get(*id).is_idle());
        idle.take(settings.idle_dests as usize)
    }

    /// Notes that a slot is about to hold a destination.
    fn not_idle(&mut self, id: DestId) {
        self.idle.set(id, Idle::default());
        self.set(|s| s.idle_dests = s.idle_dests.saturating_sub(1));
    }
}

impl Slots {
    /// Looks through the deleted destinations, unless that was done before.
    fn look(&mut self, plane: &Plane) {
        if std::mem::replace(&mut self.looked, true) {
            return;
        }
        let now = field!(plane.settings, 0, now_ns);
        (self.trash, self.free, self.restless) = (Vec::new(), Vec::new(), false);
        for id in plane.idle_dests() {
            let idle = plane.idle.get(id);
            self.trash.push((idle.key, id));
            if idle.age(now) > GRACE {
                self.free.push(id);
            } else {
                self.restless = true;
            }
        }
        self.trash.sort_unstable();
    }

    /// The deleted destination of this service with this address and port, to be revived.
    pub fn revive(&mut self, plane: &mut Plane, service: &ServiceKey, dest: &DestinationKey) -> Option<DestId> {
        self.look(plane);
        let what = (*service, *dest);
        let hash = key(&what);
        let from = self.trash.partition_point(|(key, _)| *key < hash);
        let alike = self.trash[from..].iter().take_while(|(key, _)| *key == hash).map(|(_, id)| *id);
        let same = |id: &DestId| {
            let slot = plane.dests.get(*id);
            // A service made anew in the slot of its service would have it for its own.
            slot.slot == dest_slot::USED
                && plane.dest_config(*id).flags & dest_flags::AVAILABLE == 0
                && field!(plane.services, slot.service, serial) == slot.service_serial
                && key_of(plane, *id) == what
        };
        let id = self.discarded.remove(&what).into_iter().chain(alike).find(same)?;
        plane.not_idle(id);
        Some(id)
    }

    /// Remembers a destination that is deleted now.
    pub fn discard(&mut self, service: ServiceKey, dest: DestinationKey, id: DestId) {
        self.discarded.insert((service, dest), id);
    }

    /// A free destination slot, `None` if the table is full.
    pub fn take_dest(&mut self, plane: &mut Plane) -> Option<DestId> {
        self.look(plane);
        while let Some(id) = self.free.pop() {
            let busy = field!(plane.dests, id, connections) != 0 || field!(plane.dests, id, persistent) != 0;
            if !busy && !is_configured(plane, id) {
                plane.not_idle(id);
                give_back(plane, id);
                return Some(id);
            }
        }
        let used = plane.settings().dests_used;
        if used == plane.dests.count() {
            if !std::mem::take(&mut self.restless) {
                return None;
            }
            // There will be some as soon as they have rested, which is worth the wait.
            std::thread::sleep(Duration::from_nanos(GRACE + SWEEP));
            self.looked = false;
            return self.take_dest(plane);
        }
        plane.set(|s| s.dests_used = used + 1);
        let id = DestId::new(used);
        // Changes that were taken back may have been there.
        plane.idle.set(id, Idle::default());
        give_back(plane, id);
        Some(id)
    }

    /// A free service slot, `None` if the table is full.
    pub fn take_service(&mut self, plane: &mut Plane) -> Option<ServiceId> {
        let used = plane.settings().services_used;
        let count = plane.services.count();
        if used < count {
            plane.set(|s| s.services_used = used + 1);
            return Some(ServiceId::new(used));
        }
        let epochs = [plane.now(), plane.epoch()];
        let is_free = |id: &ServiceId| {
            let (switch, config) = (field!(plane.services, *id, switch), field!(plane.services, *id, config));
            epochs.iter().all(|epoch| config[switch.copy(*epoch)].flags & service_flags::PRESENT == 0)
        };
        let from = self.service.get().max(1);
        self.service = (from..count).chain(1..from).map(ServiceId::new).find(is_free)?;
        Some(self.service)
    }

    /// A place for a table. [`Error::NoMemory`] if all are taken.
    pub fn take_table(&mut self, plane: &Plane) -> Result<u32> {
        if self.tables.is_empty() {
            let mut taken = vec![false; plane.table_places().map_err(Error::from)? as usize];
            // Service 0, which is none, has the default pool.
            for id in (0..plane.settings().services_used).map(ServiceId::new) {
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

/// The hash of what a destination is. Another lvsadm may have another one: then it revives nothing of this one's.
pub fn key(what: &(ServiceKey, DestinationKey)) -> u32 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish() as u32
}

/// What a destination is, or was.
pub fn key_of(plane: &Plane, id: DestId) -> (ServiceKey, DestinationKey) {
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
