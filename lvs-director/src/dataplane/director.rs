//! The director made of the data plane's maps.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;

use lvs_common::abi::{Counters, MARK_RULES, MarkRule, ServiceId, Sysctls, service_flags};
use lvs_common::sched::change::Change;
use lvs_common::state::tcp;

use super::convert;
use super::lists::Rows;
use super::locals::DEFAULT;
use super::mapped::put;
use super::plane::Plane;
use super::services::check_count;
use super::slots::Slots;
use super::sync::process;
use crate::director::{Access, Director, Error, Result, Wanted, check};
use crate::rules::{
    AccessChange, AccessEntry, AccessKind, AccessList, AccessRule, Connection, Daemon, Destination, DestinationKey,
    LocalEntry, Mark, Role, Service, ServiceEntry, ServiceKey, Timeouts,
};

/// Buckets that ipvsadm's first line tells: IPVS's default, which scripts may know; the real table is `lvsadm status`'s.
const TABLE_SIZE: u32 = 4096;

/// How many slots a deletion looks through on average.
const FEW_SLOTS: u32 = 512;

/// The program that this process runs.
const OWN: &str = "/proc/self/exe";

/// See the module.
#[derive(Debug)]
pub struct PlaneDirector {
    plane: Plane,
    slots: Slots,
    grouping: bool,
    /// Services deleted since the last switch: their keys leave the index after it.
    gone: Vec<ServiceId>,
    /// Whether destinations were deleted since the last switch.
    deleted: bool,
    /// Whether the classification rules were changed since.
    marked: bool,
    /// Whether pools of local addresses were changed since.
    pooled: bool,
    /// Whether lists of clients were changed since.
    listed: bool,
    /// Lists of clients, once they were read.
    rows: OnceCell<Rows>,
    /// What daemons are run by.
    program: PathBuf,
}

impl PlaneDirector {
    /// A director on a loaded data plane.
    pub fn new(plane: Plane) -> Self {
        PlaneDirector {
            plane,
            slots: Slots::default(),
            grouping: false,
            gone: Vec::new(),
            deleted: false,
            marked: false,
            pooled: false,
            listed: false,
            rows: OnceCell::new(),
            program: PathBuf::from(OWN),
        }
    }

    /// Has daemons run by another program than this one: the path of `lvsadm`.
    pub fn with_program(self, program: PathBuf) -> Self {
        PlaneDirector { program, ..self }
    }

    /// The data plane it is made of.
    pub fn plane(&mut self) -> &mut Plane {
        &mut self.plane
    }

    /// Ends a destination's connections: how many. Of its templates those remain that a connection needs.
    pub fn end_connections(&mut self, service: &ServiceKey, destination: &DestinationKey) -> Result<u32> {
        let id = self.find(service)?;
        let dest = self.plane.find_dest(id, destination).ok_or(Error::NotFound)?;
        self.plane.end_connections(dest).map_err(Error::from)
    }

    /// The entries of all lists of a kind.
    pub fn all_access(&self, kind: AccessKind) -> Result<Vec<AccessEntry>> {
        let rows = self.rows()?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let ids = std::iter::once(DEFAULT).chain(self.plane.service_ids()).filter(|id| self.plane.has_lists(*id));
        let lists = ids.map(|id| Ok(self.plane.list_entries(rows, kind, id)?)).collect::<Result<Vec<_>>>()?;
        Ok(lists.into_iter().flatten().collect())
    }

    fn find(&self, key: &ServiceKey) -> Result<ServiceId> {
        self.plane.find_service(key)?.ok_or(Error::NoService)
    }

    /// Makes a change: stages it, and switches unless changes are grouped.
    fn change(&mut self, change: impl FnOnce(&mut Plane, &mut Slots) -> Result<()>) -> Result<()> {
        if !self.plane.is_staging() {
            self.plane.stage();
        }
        let staged = change(&mut self.plane, &mut self.slots);
        if self.grouping { staged } else { self.finish(staged) }
    }

    /// Makes what is staged visible or, if staging or this fails, forgets it.
    fn finish(&mut self, staged: Result<()>) -> Result<()> {
        staged.and_then(|()| self.switch()).or_else(|error| {
            self.abort()?;
            Err(error)
        })
    }

    /// Does something that another process needs the lock for. Of a group of changes, those so far are made before.
    fn aside(&mut self, work: impl FnOnce(&mut Plane) -> Result<()>) -> Result<()> {
        if self.grouping {
            self.finish(Ok(()))?;
        }
        self.plane.directory.unlock();
        let worked = work(&mut self.plane);
        let same = self.plane.directory.lock_again(Access::Change)?;
        if same { worked } else { Err(Error::Other("the data plane was unloaded meanwhile".to_owned())) }
    }

    /// Stages the deletion of a service and its destinations.
    fn remove(&mut self, key: &ServiceKey, id: ServiceId) -> Result<()> {
        self.gone.push(id);
        self.listed |= self.plane.has_lists(id);
        self.change(|plane, slots| {
            for dest in plane.list(id) {
                slots.discard(*key, convert::dest_key(&plane.dests.get(dest)), dest);
                plane.retire_dest(dest);
            }
            plane.change_service(id, |config| config.flags &= !service_flags::PRESENT);
            Ok(())
        })
    }

    /// Makes what is staged visible. An error leaves it staged.
    fn switch(&mut self) -> Result<()> {
        if !self.plane.is_staging() {
            return Ok(());
        }
        self.plane.build_tables(&mut self.slots)?;
        self.plane.build_rosters();
        self.plane.switch();
        let gone = std::mem::take(&mut self.gone);
        for id in &gone {
            self.plane.forget_service(*id).map_err(Error::from)?;
        }
        if std::mem::take(&mut self.listed) {
            self.settle_lists()?;
        }
        let deleted = std::mem::take(&mut self.deleted) || !gone.is_empty();
        if std::mem::take(&mut self.pooled) || !gone.is_empty() {
            self.plane.settle_locals().map_err(Error::from)?;
            self.slots.locals.clear();
        }
        if std::mem::take(&mut self.marked) {
            self.plane.prune_watch();
        } else if deleted {
            self.prune();
        }
        // The rules are made, whatever becomes of routes: `status` tells which are missing.
        let _ = self.plane.advertise();
        Ok(())
    }

    /// What follows from lists that have come into force: old ones are forgotten, and the connections of clients who are not let
    /// in any more end.
    fn settle_lists(&mut self) -> Result<()> {
        // A packet that began before is through by then: no connection comes after its look into a list.
        Plane::wait_for_packets();
        self.rows.take();
        self.plane.collect_lists(self.rows()?)?;
        self.rows.take();
        self.plane.expel()?;
        Ok(())
    }

    /// All lists, read once.
    fn rows(&self) -> Result<&Rows> {
        match self.rows.get() {
            Some(rows) => Ok(rows),
            None => {
                let rows = self.plane.list_rows()?;
                Ok(self.rows.get_or_init(|| rows))
            }
        }
    }

    /// Stages another list.
    fn write_list(&mut self, kind: AccessKind, id: ServiceId, entries: &[AccessEntry]) -> Result<()> {
        self.rows.take();
        self.listed = true;
        self.change(|plane, _| plane.write_list(kind, id, entries))
    }

    /// Clears what packets need not look at any more. That takes a look through all slots, and a bit too many is no
    /// error: where there are many slots, only one of some changes does it.
    fn prune(&mut self) {
        let settings = self.plane.settings();
        let turns = 1 + u64::from((settings.dests_used + settings.services_used) / FEW_SLOTS);
        if settings.epoch.is_multiple_of(turns) || !self.plane.has_services() {
            self.plane.prune_watch();
            // What cannot be forgotten now is forgotten another time.
            let _ = self.plane.prune_ports();
        }
    }
}

impl Director for PlaneDirector {
    fn add_service(&mut self, service: &Service) -> Result<()> {
        if self.plane.find_service(&service.key)?.is_some() {
            return Err(Error::Exists);
        }
        check::service(service)?;
        self.change(|plane, slots| {
            let id = slots.take_service(plane).ok_or(Error::NoMemory)?;
            plane.set(|s| s.serial += 1);
            plane.write_service(id, service, plane.settings().serial).map_err(Error::from)
        })
    }

    fn edit_service(&mut self, service: &Service) -> Result<()> {
        let id = self.find(&service.key)?;
        check::service(service)?;
        self.change(|plane, _| {
            let before = plane.service_config(id);
            let mut after = convert::service_config(service);
            (after.head, after.dest_count) = (before.head, before.dest_count);
            (after.table, after.sched_state, after.locals) = (before.table, before.sched_state, before.locals);
            (after.weight_gcd, after.weight_max) = (before.weight_gcd, before.weight_max);
            (after.roster, after.blocked, after.allowed) = (before.roster, before.blocked, before.allowed);
            check_count(after.scheduler, after.dest_count)?;
            plane.change_service(id, |config| *config = after);
            let flags = convert::dest_flags(&after);
            if flags != convert::dest_flags(&before) {
                for dest in plane.list(id) {
                    plane.change_dest(dest, |config| config.flags = flags);
                }
            }
            if after.scheduler != before.scheduler {
                plane.refresh(id, Change::Attached);
            }
            Ok(())
        })
    }

    fn delete_service(&mut self, key: &ServiceKey) -> Result<()> {
        let id = self.find(key)?;
        self.remove(key, id)
    }

    fn flush(&mut self) -> Result<()> {
        let grouping = std::mem::replace(&mut self.grouping, true);
        let removed = self.plane.service_ids().into_iter().try_for_each(|id| {
            let key = convert::service_key(&self.plane.services.get(id));
            self.remove(&key, id)
        });
        self.grouping = grouping;
        if grouping { removed } else { self.finish(removed) }
    }

    fn zero(&mut self, key: Option<&ServiceKey>) -> Result<()> {
        let ids = match key {
            Some(key) => vec![self.find(key)?],
            None => self.plane.service_ids(),
        };
        let deleted = self.plane.deleted_counts();
        for id in ids {
            let counted = self.plane.service_counted(id, deleted.get(&id).unwrap_or(&Counters::default()));
            put!(self.plane.services, id, base, counted);
            put!(self.plane.service_rates, id, average, [0; 5]);
            for dest in self.plane.list(id) {
                let counted = self.plane.counted(dest);
                put!(self.plane.dests, dest, base, counted);
                put!(self.plane.dest_rates, dest, average, [0; 5]);
            }
        }
        Ok(())
    }

    fn add_destination(&mut self, service: &ServiceKey, destination: &Destination) -> Result<()> {
        let id = self.find(service)?;
        check::destination(service, destination)?;
        if self.plane.find_dest(id, &destination.key).is_some() {
            return Err(Error::Exists);
        }
        check::real_server_address(destination.key.address)?;
        self.change(|plane, slots| plane.write_dest(id, service, destination, slots))
    }

    fn edit_destination(&mut self, service: &ServiceKey, destination: &Destination) -> Result<()> {
        let id = self.find(service)?;
        check::destination(service, destination)?;
        let dest = self.plane.find_dest(id, &destination.key).ok_or(Error::NotFound)?;
        self.change(|plane, _| {
            plane.rewrite_dest(id, dest, destination);
            Ok(())
        })
    }

    fn delete_destination(&mut self, service: &ServiceKey, destination: &DestinationKey) -> Result<()> {
        let id = self.find(service)?;
        let dest = self.plane.find_dest(id, destination).ok_or(Error::NotFound)?;
        self.deleted = true;
        self.change(|plane, slots| {
            slots.discard(*service, *destination, dest);
            plane.unlink_dest(id, dest)
        })
    }

    fn services(&self, wanted: Wanted) -> Result<Vec<ServiceEntry>> {
        self.plane.entries(wanted).map_err(Error::from)
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

    fn sysctls(&self) -> Result<Sysctls> {
        Ok(self.plane.settings().sysctls)
    }

    fn set_sysctls(&mut self, sysctls: &Sysctls) -> Result<()> {
        self.plane.set_sysctls(sysctls).map_err(Error::from)
    }

    fn marks(&self) -> Result<Vec<Mark>> {
        Ok(self.plane.mark_rules().iter().map(convert::mark).collect())
    }

    fn set_marks(&mut self, marks: &[Mark]) -> Result<()> {
        if marks.len() > MARK_RULES as usize {
            return Err(Error::Other(format!("there is room for {MARK_RULES} rules about marks")));
        }
        let mut rules: Vec<_> = marks.iter().map(convert::mark_rule).collect();
        rules.sort_by(MarkRule::order);
        self.marked = true;
        self.change(|plane, _| {
            plane.write_mark_rules(&rules);
            Ok(())
        })
    }

    fn locals(&self, service: Option<&ServiceKey>) -> Result<Vec<LocalEntry>> {
        let id = service.map_or(Ok(DEFAULT), |service| self.find(service))?;
        self.plane.locals(id).map_err(Error::from)
    }

    fn set_locals(&mut self, service: Option<&ServiceKey>, addresses: &[IpAddr]) -> Result<()> {
        let id = service.map_or(Ok(DEFAULT), |service| self.find(service))?;
        addresses.iter().try_for_each(|address| check::local_address(*address))?;
        self.pooled = true;
        self.change(|plane, slots| plane.write_pool(id, addresses, slots))
    }

    fn access(&self, kind: AccessKind, service: Option<&ServiceKey>) -> Result<Vec<AccessEntry>> {
        let id = service.map_or(Ok(DEFAULT), |service| self.find(service))?;
        if !self.plane.has_lists(id) {
            return Ok(Vec::new());
        }
        Ok(self.plane.list_entries(self.rows()?, kind, id)?)
    }

    fn edit_access(&mut self, kind: AccessKind, service: Option<&ServiceKey>, change: &AccessChange) -> Result<()> {
        let id = service.map_or(Ok(DEFAULT), |service| self.find(service))?;
        match change {
            AccessChange::Add(rules) if !self.grouping && self.plane.has_list(kind, id) => {
                self.rows.take();
                self.plane.add_to_list(kind, id, rules)?;
                Plane::wait_for_packets();
                return self.plane.expel().map(drop).map_err(Error::from);
            }
            AccessChange::Delete(prefixes) if !self.grouping => {
                self.rows()?;
                let rows = self.rows.take().unwrap_or_default();
                if self.plane.take_from_list(kind, id, prefixes, &rows)? {
                    return Ok(());
                }
                return self.write_list(kind, id, &[]);
            }
            _ => {}
        }
        let entries = self.access(kind, service)?;
        let mut list: AccessList = entries.iter().map(|entry| (entry.rule.prefix, entry.rule.seconds)).collect();
        change.apply(&mut list);
        let packets: HashMap<_, _> = entries.iter().map(|entry| (entry.rule.prefix, entry.packets)).collect();
        let entry = |(prefix, seconds)| AccessEntry {
            rule: AccessRule { prefix, seconds },
            packets: packets.get(&prefix).copied().unwrap_or_default(),
        };
        self.write_list(kind, id, &list.into_iter().map(entry).collect::<Vec<_>>())
    }

    fn start_daemon(&mut self, daemon: &Daemon) -> Result<()> {
        let program = self.program.clone();
        self.aside(|plane| process::start(&program, daemon, plane.directory.root()))
    }

    fn stop_daemon(&mut self, role: Role) -> Result<()> {
        let process = self.plane.daemon_process(role);
        self.aside(|plane| {
            process::stop(role, process)?;
            // One that was killed has left its note.
            plane.directory.lock_again(Access::Change)?;
            Ok(plane.forget_dead_daemons()?)
        })
    }

    fn daemons(&self) -> Result<Vec<Daemon>> {
        Ok(self.plane.daemons()?)
    }

    fn connections(&self, visit: &mut dyn FnMut(&Connection)) -> Result<()> {
        self.plane.each_connection(visit);
        Ok(())
    }

    fn unlock(&mut self) {
        self.plane.directory.unlock();
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
        self.finish(Ok(()))
    }

    fn abort(&mut self) -> Result<()> {
        self.gone.clear();
        (self.deleted, self.marked, self.pooled) = (false, false, false);
        let listed = std::mem::take(&mut self.listed);
        self.rows.take();
        (self.slots, self.grouping) = (Slots::default(), false);
        self.plane.abandon()?;
        if listed {
            // What was written of lists is on none.
            self.plane.collect_lists(&self.plane.list_rows()?)?;
        }
        Ok(())
    }
}
