//! Why: the decisions about a packet that opens a connection, by the functions that the programs call, on the maps of a plane.

use std::net::IpAddr;

use lvs_common::abi::{Address, DestId, Destination, Mode, ServiceId, dest_flags, service_flags};
use lvs_common::byte_order::Be16;
use lvs_common::exit::{EXITS, Exit};
use lvs_common::lookup;
use lvs_common::marks::Subject as Marked;
use lvs_common::sched::locality::{Entry, Locality, is_fresh};
use lvs_common::sched::{self, Candidate, Destinations, PickKey, Table, Walk, lblc};

use super::super::convert;
use super::super::error::Result;
use super::super::kernel::ticks_per_second;
use super::super::mapped::field;
use super::super::plane::Plane;
use super::super::syscall;
use super::room::Room;
use super::subject::Subject;
use crate::rules::{DestinationKey, Mark, Protocol, Service, ServiceKey};

/// A real server, as the scheduler sees it.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// Which one.
    pub key: DestinationKey,
    /// Its weight.
    pub weight: u32,
    /// Its connections.
    pub active: u32,
    /// See `active`.
    pub inactive: u32,
    /// Whether thresholds keep new connections away.
    pub overloaded: bool,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Reasons {
    /// The packet's mark, and the rule that gives it, if one does.
    pub mark: u32,
    /// See `mark`.
    pub rule: Option<Mark>,
    /// The service.
    pub service: Option<Service>,
    /// The exit by which a list of clients keeps the packet out.
    pub refused: Option<&'static str>,
    /// Real servers, in the order of the scheduler's list.
    pub choices: Vec<Choice>,
    /// Whom the scheduler picks, of those that it may; unless it draws lots, or a template decides.
    pub pick: Option<DestinationKey>,
    /// Of the pick's local addresses, if FullNAT leads to it: how many ports are free toward it, of how many.
    pub locals: Vec<(IpAddr, u32, u32)>,
    /// Whether the scheduler draws lots.
    pub is_random: bool,
    /// Whether a persistence template decides first.
    pub is_persistent: bool,
    /// Whether the table has room for a connection that the packet opens.
    pub room: Room,
}

impl Reasons {
    /// About a packet, as if it belonged to no connection.
    pub fn of(plane: &Plane, subject: &Subject, room: Room) -> Result<Self> {
        let mut reasons = Reasons { mark: subject.mark, room, ..Reasons::default() };
        let marked = Marked {
            source: convert::address(subject.source.ip()),
            destination: convert::address(subject.destination.ip()),
            port: subject.destination.port(),
            protocol: subject.protocol,
            family: subject.family().number(),
        };
        if let Some(rule) = plane.mark_rules().iter().find(|rule| rule.matches(&marked)) {
            (reasons.mark, reasons.rule) = (rule.mark, Some(convert::mark(rule)));
        }
        let Some(id) = service(plane, subject, reasons.mark)? else { return Ok(reasons) };
        let config = plane.service_config(id);
        reasons.service = Some(convert::service(&plane.services.get(id), &config));
        reasons.refused =
            plane.refusal(&plane.list_rows()?, id, subject.source.ip())?.map(|exit: Exit| EXITS[exit as usize].0);
        let list = Listed { plane, id };
        reasons.choices = plane.list(id).into_iter().filter_map(|dest| list.choice(dest)).collect();
        reasons.is_random = sched::is_random(config.scheduler);
        reasons.is_persistent = config.flags & service_flags::PERSISTENT != 0;
        let settings = plane.settings();
        let key = PickKey {
            client: marked.source,
            virt: marked.destination,
            client_port: Be16::new(subject.source.port()),
            random: [0; 2],
            now: settings.now / u64::from(ticks_per_second().max(1)),
        };
        let lifetime = sched::memory(config.scheduler, &settings.sysctls).into();
        let memory = Memory { plane, id, lifetime };
        let table = if config.table == 0 { Vec::new() } else { plane.table(config.table)? };
        // The state is the first copy's whose configuration is in force.
        let state = plane.service_config(id).sched_state;
        let pick = sched::pick(&list, Slots(&table), &memory, &config, &key, state);
        let is_none = pick.dest.is_none() || reasons.is_random;
        reasons.pick = (!is_none).then(|| convert::dest_key(&plane.dests.get(pick.dest)));
        let port = Be16::new(subject.destination.port());
        if !is_none && plane.dest_config(pick.dest).forward == Mode::FULLNAT {
            reasons.locals = plane.free_ports(id, &plane.dests.get(pick.dest), (subject.protocol, port))?;
        }
        Ok(reasons)
    }
}

/// The service that a packet is for.
fn service(plane: &Plane, subject: &Subject, mark: u32) -> Result<Option<ServiceId>> {
    let (address, family) = (subject.destination.ip(), subject.family());
    let find = |key: ServiceKey| plane.find_service(&key).ok().flatten().filter(|id| plane.is_present(*id));
    let exact = |port: Be16, protocol| {
        let protocol = Protocol::from_number(protocol)?;
        find(ServiceKey::Address { protocol, address, port: port.get() })
    };
    let by_mark = |mark| find(ServiceKey::Fwmark { mark, family });
    let (to, flags) = (Be16::new(subject.destination.port()), plane.settings().flags);
    Ok(lookup::service(to, subject.protocol, mark, flags, by_mark, exact))
}

/// The destinations of a service as schedulers see them.
struct Listed<'a> {
    plane: &'a Plane,
    id: ServiceId,
}

impl Listed<'_> {
    fn candidate(&self, id: DestId) -> Option<Candidate> {
        if id.is_none() || id.get() >= self.plane.dests.count() {
            return None;
        }
        let config = self.plane.dest_config(id);
        let (active, inactive) = Destination::split(field!(self.plane.dests, id, connections));
        let overloaded = field!(self.plane.dests, id, overloaded) != 0;
        Some(Candidate { id, weight: config.weight, active, inactive, overloaded, next: config.next })
    }

    fn choice(&self, id: DestId) -> Option<Choice> {
        let Candidate { weight, active, inactive, overloaded, .. } = self.candidate(id)?;
        Some(Choice { key: convert::dest_key(&self.plane.dests.get(id)), weight, active, inactive, overloaded })
    }
}

impl Destinations for Listed<'_> {
    fn head(&self) -> DestId {
        self.plane.service_config(self.id).head
    }

    fn count(&self) -> u32 {
        self.plane.service_config(self.id).dest_count
    }

    fn get(&self, id: DestId) -> Option<Candidate> {
        self.candidate(id)
    }

    fn recall(&self, id: DestId) -> Option<Candidate> {
        let candidate = self.candidate(id)?;
        let is_available = self.plane.dest_config(id).flags & dest_flags::AVAILABLE != 0;
        (is_available && field!(self.plane.dests, id, service) == self.id).then_some(candidate)
    }

    fn walk<W: Walk>(&self, steps: u32, mut walk: W) -> W {
        for _ in 0..steps {
            if walk.step(self) {
                break;
            }
        }
        walk
    }

    fn best(&self, scheduler: u8) -> DestId {
        sched::best(self, scheduler)
    }

    fn has_idle(&self) -> bool {
        lblc::has_idle(self)
    }
}

/// The table of a hashing scheduler.
#[derive(Clone, Copy)]
struct Slots<'a>(&'a [u32]);

impl Table for Slots<'_> {
    fn slot(&self, index: u32) -> DestId {
        DestId::new(self.0.get(index as usize).copied().unwrap_or(0))
    }
}

/// What lblc and lblcr remember for a service; what they would note is not noted.
struct Memory<'a> {
    plane: &'a Plane,
    id: ServiceId,
    lifetime: u64,
}

impl Locality for Memory<'_> {
    fn fresh(&self, address: &Address, now: u64) -> Option<Entry> {
        let words = address.0.into_iter().chain([self.id.get()]);
        let key: Vec<u8> = words.flat_map(u32::to_ne_bytes).collect();
        let mut words = [0u64; size_of::<Entry>() / 8];
        // SAFETY: as many bytes as the words have.
        let value = unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast::<u8>(), size_of::<Entry>()) };
        syscall::get_bytes(&self.plane.open_map("LOCALITY").ok()?, &key, value).ok()?;
        // SAFETY: plain integers of that size.
        let entry: Entry = unsafe { std::mem::transmute(words) };
        is_fresh(entry.used, self.lifetime, now).then_some(entry)
    }

    fn put(&self, _: &Address, _: &Entry) {}

    fn lifetime(&self) -> u64 {
        self.lifetime
    }
}
