//! Looking: what there is now, compared with what there was before.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use log::Level;
use lvs_common::health::{Drops, FAILED, FULL, Fill, Neighbour, Turn};
use lvs_director::dataplane::{self, Defence, PlaneDirector};
use lvs_director::director::{Access, Director, Wanted};
use lvs_director::rules::ServiceKey;

use super::event::{Event, bounded};
use super::neighbours;
use crate::snapshot::label;

/// How often there is a look.
pub const INTERVAL: Duration = Duration::from_secs(5);

/// What the names of exits begin with whose packets are dropped.
const DROP: &str = "drop-";

/// What was seen before.
#[derive(Debug)]
pub struct Health {
    begun: Instant,
    drops: Option<HashMap<&'static str, Drops>>,
    tables: HashMap<&'static str, Fill>,
    /// Attached devices, and how each is served.
    devices: Option<BTreeMap<String, &'static str>>,
    /// Neighbours of real servers that are lost.
    neighbours: HashMap<IpAddr, Neighbour>,
}

impl Default for Health {
    fn default() -> Self {
        Health { begun: Instant::now(), drops: None, tables: HashMap::new(), devices: None, neighbours: HashMap::new() }
    }
}

impl Health {
    /// Looks: what is news. Without a data plane there is none.
    pub fn look(&mut self) -> Result<Vec<Event>> {
        let Some(plane) = dataplane::open(Access::Read)? else {
            *self = Health::default();
            return Ok(Vec::new());
        };
        let devices = dataplane::attachments(&plane)?;
        let (exits, defence) = (plane.exits()?, Defence::of(&plane));
        let states = neighbours::states()?;
        let servers = if states.values().any(|state| state & FAILED != 0) || !self.neighbours.is_empty() {
            let mut director = PlaneDirector::new(plane);
            director.unlock();
            servers(&director)?
        } else {
            drop(plane);
            HashMap::new()
        };
        let devices = devices.into_iter().map(|device| (device.device, device.attached.name())).collect();
        let mut events = self.devices(devices);
        events.extend(self.drops(&exits));
        events.extend(self.tables(&defence));
        events.extend(self.neighbours(&servers, &states));
        Ok(events)
    }

    /// Devices that were attached or detached.
    fn devices(&mut self, now: BTreeMap<String, &'static str>) -> Vec<Event> {
        let before = self.devices.replace(now.clone());
        let Some(before) = before else { return Vec::new() };
        let gone = before.iter().filter(|(device, _)| !now.contains_key(*device)).map(|(device, _)| {
            let message = format!("{device} is detached: its packets are not balanced");
            Event::new(Level::Warn, "device-detached", message).with("LVS_DEVICE", device)
        });
        let come = now.iter().filter(|(device, mode)| before.get(*device) != Some(mode)).map(|(device, mode)| {
            let message = format!("{device} is attached, mode {mode}");
            Event::new(Level::Info, "device-attached", message).with("LVS_DEVICE", device).with("LVS_MODE", mode)
        });
        let (gone, come) = (bounded(gone.collect()), bounded(come.collect()));
        [gone, come].concat()
    }

    /// The first drops for a reason in a while. What was dropped before the first look is no news.
    fn drops(&mut self, exits: &[(&'static str, &'static str, u64)]) -> Vec<Event> {
        let now = self.begun.elapsed().as_secs();
        let drops = exits.iter().filter(|(exit, ..)| exit.starts_with(DROP));
        let Some(seen) = &mut self.drops else {
            self.drops = Some(drops.map(|(exit, _, packets)| (*exit, Drops::after(*packets))).collect());
            return Vec::new();
        };
        let event = |(exit, meaning, packets): &(&'static str, &'static str, u64)| {
            let fresh = seen.entry(exit).or_default().see(*packets, now)?;
            let what = meaning.strip_prefix("dropped: ").unwrap_or(meaning);
            let message = format!("packets are dropped ({exit}), the first for this reason in a while: {what}");
            Some(Event::new(Level::Warn, "drop", message).with("LVS_REASON", exit).with("LVS_PACKETS", fresh))
        };
        bounded(drops.filter_map(event).collect())
    }

    /// Tables that got nearly full, or have room again.
    fn tables(&mut self, defence: &Defence) -> Vec<Event> {
        let room = defence.room;
        let event = |(family, held): (lvs_director::rules::Family, u32)| {
            let turn = self.tables.entry(family.name()).or_default().see(held, room)?;
            let message = match turn {
                Turn::Worse => {
                    format!("the connection table of {} is more than {FULL} % full: {held} of {room}", family.name())
                }
                Turn::Better => format!("the connection table of {} has room again: {held} of {room}", family.name()),
            };
            let event = Event::turn(turn, "table", message).with("LVS_FAMILY", family.name());
            Some(event.with("LVS_CONNECTIONS", held).with("LVS_ROOM", room))
        };
        defence.held.into_iter().filter_map(event).collect()
    }

    /// Real servers that nobody answers for on this host's networks, or that are found again.
    fn neighbours(&mut self, servers: &HashMap<IpAddr, Vec<ServiceKey>>, states: &HashMap<IpAddr, u16>) -> Vec<Event> {
        self.neighbours.retain(|address, _| servers.contains_key(address));
        let mut events = [Vec::new(), Vec::new()];
        for (address, services) in servers {
            let neighbour = self.neighbours.entry(*address).or_default();
            let Some(turn) = neighbour.see(states.get(address).copied()) else { continue };
            let message = match turn {
                Turn::Worse => {
                    format!("real server {address} is lost: nobody answers for its address (ARP, neighbour discovery)")
                }
                Turn::Better => format!("real server {address} is found again"),
            };
            let event = Event::turn(turn, "neighbour", message).with("LVS_REAL_SERVER", address);
            let event =
                services.iter().take(10).fold(event, |event, service| event.with("LVS_SERVICE", label(service)));
            events[usize::from(turn == Turn::Better)].push(event);
        }
        // Who is not lost need not be remembered.
        self.neighbours.retain(|_, neighbour| neighbour.is_lost());
        events.map(bounded).concat()
    }
}

/// Addresses of real servers, each with the services that it is of.
fn servers(director: &PlaneDirector) -> Result<HashMap<IpAddr, Vec<ServiceKey>>> {
    let mut servers = HashMap::<_, Vec<_>>::new();
    for entry in director.services(Wanted { destinations: true, ..Wanted::default() })? {
        for listed in &entry.destinations {
            servers.entry(listed.destination.key.address).or_default().push(entry.service.key);
        }
    }
    Ok(servers)
}

#[cfg(test)]
mod tests {
    use lvs_director::rules::{Family, Protocol};

    use super::*;

    fn messages(events: &[Event]) -> Vec<&str> {
        events.iter().map(|event| &*event.message).collect()
    }

    #[test]
    fn devices_are_news_when_they_come_and_go() {
        let mut health = Health::default();
        let devices =
            |names: &[(&str, &'static str)]| names.iter().map(|(name, mode)| ((*name).to_owned(), *mode)).collect();
        assert_eq!(health.devices(devices(&[("eth0", "native"), ("lo", "egress")])), []);
        assert_eq!(health.devices(devices(&[("eth0", "native"), ("lo", "egress")])), []);
        let events = health.devices(devices(&[("eth1", "tc"), ("lo", "egress")]));
        assert_eq!(messages(&events), ["eth0 is detached: its packets are not balanced", "eth1 is attached, mode tc"]);
        assert!(events[1].fields.contains(&("LVS_DEVICE", "eth1".to_owned())));
    }

    #[test]
    fn what_was_dropped_before_is_no_news() {
        let mut health = Health::default();
        let exits = |ttl| [("nat", "", 9), ("drop-ttl", "dropped: too old", ttl), ("drop-busy", "dropped: busy", 0)];
        assert_eq!(health.drops(&exits(5)), []);
        assert_eq!(health.drops(&exits(5)), []);
        let events = health.drops(&exits(7));
        assert_eq!(
            messages(&events),
            ["packets are dropped (drop-ttl), the first for this reason in a while: too old"]
        );
        assert_eq!(events[0].fields[1..], [("LVS_REASON", "drop-ttl".to_owned()), ("LVS_PACKETS", "2".to_owned())]);
        assert_eq!(health.drops(&exits(900)), []);
    }

    #[test]
    fn a_full_table_is_news_of_its_family() {
        let mut health = Health::default();
        let mut defence = Defence {
            held: [(Family::V4, 80), (Family::V6, 0)],
            room: 100,
            modes: [("drop_entry", "off"), ("drop_packet", "off"), ("secure_tcp", "off")],
            drop_rate: 0,
            taken_out: 0,
        };
        let events = health.tables(&defence);
        assert_eq!(messages(&events), ["the connection table of inet is more than 80 % full: 80 of 100"]);
        assert_eq!(health.tables(&defence), []);
        defence.held[0].1 = 10;
        assert_eq!(messages(&health.tables(&defence)), ["the connection table of inet has room again: 10 of 100"]);
    }

    #[test]
    fn a_lost_real_server_is_news_with_its_services() {
        let mut health = Health::default();
        let address: IpAddr = "192.168.122.101".parse().unwrap();
        let key = ServiceKey::Address { protocol: Protocol::Tcp, address: "10.10.10.10".parse().unwrap(), port: 80 };
        let servers = HashMap::from([(address, vec![key])]);
        assert_eq!(health.neighbours(&servers, &HashMap::from([(address, 2)])), []);
        let events = health.neighbours(&servers, &HashMap::from([(address, FAILED)]));
        assert_eq!(
            messages(&events),
            ["real server 192.168.122.101 is lost: nobody answers for its address (ARP, neighbour discovery)"]
        );
        assert!(events[0].fields.contains(&("LVS_SERVICE", "TCP 10.10.10.10:80".to_owned())), "{events:?}");
        assert_eq!(health.neighbours(&servers, &HashMap::new()), []);
        let events = health.neighbours(&servers, &HashMap::from([(address, 2)]));
        assert_eq!(messages(&events), ["real server 192.168.122.101 is found again"]);
        // One that is no real server any more is forgotten.
        health.neighbours(&servers, &HashMap::from([(address, FAILED)]));
        assert_eq!(health.neighbours(&HashMap::new(), &HashMap::new()), []);
        assert!(health.neighbours.is_empty());
    }
}
