//! Rosters: what schedulers read that look at every destination of a service.

use lvs_common::abi::{RosterEntry, RosterPart, ServiceId, service_flags};
use lvs_common::sched::roster::{self, SHORT};

use super::mapped::field;
use super::plane::Plane;

impl Plane {
    /// Stages the rosters that changes made necessary, each once for however many changes. Where there is no room for one,
    /// packets walk along the list, which takes longer.
    pub fn build_rosters(&mut self) {
        for id in std::mem::take(&mut self.rosters_due) {
            if !self.is_present(id) || self.service_config(id).dest_count <= SHORT {
                continue;
            }
            let entry = |dest| RosterEntry { id: dest, weight: self.dest_config(dest).weight };
            let entries: Vec<RosterEntry> =
                self.list(id).into_iter().map(entry).filter(|entry| entry.weight != 0).collect();
            let places = self.free_places(id, roster::parts(entries.len()));
            let Some(first) = places.first() else { continue };
            for (place, part) in roster::build(id, &entries, &places) {
                self.rosters.set(place, part);
            }
            self.change_service(id, |config| config.roster = *first);
        }
    }

    /// Places for so many parts of a service's roster, none if there are not that many. The search begins where few other
    /// services' does.
    fn free_places(&self, id: ServiceId, parts: usize) -> Vec<u32> {
        let count = self.rosters.count();
        let begin =
            1 + (u64::from(id.get()) * u64::from(count) / u64::from(self.services.count())) as u32 % (count - 1);
        let places = (begin..count).chain(1..begin).filter(|place| self.is_free(*place));
        let places: Vec<u32> = places.take(parts).collect();
        if places.len() == parts { places } else { Vec::new() }
    }

    /// Whether no packet reads the part in a place: no roster that is in force or staged has it, nor one that was in force
    /// before the last switch, as a packet may have begun then.
    fn is_free(&self, place: u32) -> bool {
        let RosterPart { service, first, ordinal, .. } = self.rosters.get(place);
        if service.is_none() {
            return true;
        }
        let (switch, config) = (field!(self.services, service, switch), field!(self.services, service, config));
        let now = self.now();
        [now.saturating_sub(1), now, now + 1].iter().all(|epoch| {
            let config = config[switch.copy(*epoch)];
            config.flags & service_flags::PRESENT == 0
                || config.roster != first
                || ordinal as usize >= roster::parts(config.dest_count as usize)
        })
    }
}
