//! A director in memory, with a kernel of its own.

use std::cell::RefCell;

use aya_ebpf::kernel::Kernel;
use aya_ebpf::network::Device;
use aya_ebpf::skb::Incoming;
use lvs_common::abi::sysctls::Sysctls;
use lvs_common::abi::{
    Counters, DEVICE_SLOTS, DestId, Destination, Device as Known, INCOMING, Incoming as Told, ServiceId, Settings,
    Timeouts, VlanKey, counter_places, device_flags, extras, own_counters,
};
use lvs_common::exit::EXIT_COUNT;

use crate::director::packet::{Cpu, Outcome};
use crate::director::{edit, packet, rules, sizes};
use crate::kernel::params;
use crate::kernel::shared::element;
use crate::maps;
use crate::programs_of_host::{entry, load};

/// A director with a kernel of its own.
pub struct Director {
    /// The kernel: clock, network, maps.
    pub kernel: Kernel,
    cpu: Cpu,
    services: u32,
    dests: u32,
    /// Services whose lists have changed since the last commit.
    changed: RefCell<Vec<ServiceId>>,
}

impl Director {
    /// A director without rules on a host with these devices, each of which takes what XDP sends.
    pub fn new(devices: &[Device]) -> Self {
        let mut director =
            Director { kernel: Kernel::new(), cpu: Cpu::default(), services: 1, dests: 1, changed: RefCell::default() };
        director.kernel.network.borrow_mut().devices = devices.to_vec();
        director.kernel.network.borrow_mut().forwards = true;
        director.kernel.enter(|| {
            size_maps();
            load();
        });
        director.begin();
        director
    }

    /// Makes it a director without rules and connections again.
    pub fn restart(&mut self) {
        self.kernel.restart();
        (self.services, self.dests) = (1, 1);
        self.changed.borrow_mut().clear();
        self.begin();
    }

    /// The state in which `lvsadm` leaves the maps when it loads the programs.
    fn begin(&mut self) {
        self.kernel.enter(|| {
            edit::settings().store(Settings {
                epoch: 1,
                extras: extras::IPV6,
                timeouts: Timeouts::default(),
                sysctls: Sysctls::default(),
                ..Settings::default()
            });
            for device in &self.kernel.network.borrow().devices {
                let known = Known {
                    ifindex: device.index,
                    flags: device_flags::ACCEPTS_XDP,
                    mac: device.mac,
                    ..Known::default()
                };
                if let Some(place) = element(&maps::DEVICES, device.index % DEVICE_SLOTS) {
                    place.store(known);
                }
            }
        });
        self.cpu.call(&self.kernel, entry::START, [0; 5]);
    }

    /// Takes a packet at a device with XDP and TC: what XDP leaves comes to TC.
    pub fn receive(&mut self, bytes: &[u8], incoming: &Incoming) -> Outcome {
        self.cpu.receive(&self.kernel, bytes, incoming)
    }

    /// Takes a packet at a device without XDP, or one that the host itself sends (`device` 0).
    pub fn receive_tc(&mut self, bytes: &[u8], incoming: &Incoming) -> Outcome {
        self.cpu.receive_tc(&self.kernel, bytes, incoming)
    }

    /// The packet that TC had last, as it is now.
    pub fn packet(&self) -> &[u8] {
        self.cpu.packet()
    }

    /// Makes a device a VLAN whose frames `parent` carries.
    pub fn set_vlan(&self, device: u32, parent: u32, vlan: u16) {
        self.kernel.enter(|| {
            let place = element(&maps::DEVICES, device % DEVICE_SLOTS).expect("the device has a place");
            let known = Known { flags: device_flags::TAGGED, parent, vlan, ..place.load() };
            place.store(known);
            maps::VLANS.insert(VlanKey { parent, vlan: vlan.into() }, known, 0).expect("there is room for a VLAN");
        });
    }

    /// Changes the settings.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        self.kernel.enter(|| edit::set(change));
    }

    /// Stages a service. `None` if there is no room for another.
    pub fn add_service(&mut self, service: &rules::Service) -> Option<ServiceId> {
        if self.services >= sizes::SERVICES {
            return None;
        }
        let id = ServiceId::new(self.services);
        self.services += 1;
        self.kernel.enter(|| edit::add_service(id, service, self.services.into()));
        Some(id)
    }

    /// Stages a destination. `None` if there is no room for another.
    pub fn add_dest(&mut self, service: ServiceId, destination: &rules::Destination) -> Option<DestId> {
        if self.dests >= sizes::DESTINATIONS {
            return None;
        }
        let id = DestId::new(self.dests);
        self.dests += 1;
        self.note(service);
        self.kernel.enter(|| edit::add_dest(service, id, destination));
        Some(id)
    }

    /// Stages an edit of a destination.
    pub fn edit_dest(&self, service: ServiceId, id: DestId, destination: &rules::Destination) {
        self.note(service);
        self.kernel.enter(|| edit::edit_dest(service, id, destination));
    }

    /// Stages the removal of a destination.
    pub fn remove_dest(&self, service: ServiceId, id: DestId) {
        self.note(service);
        self.kernel.enter(|| edit::remove_dest(service, id));
    }

    /// Stages the return of a destination that was removed.
    pub fn put_dest(&self, service: ServiceId, id: DestId, destination: &rules::Destination) {
        self.note(service);
        self.kernel.enter(|| edit::put_dest(service, id, destination));
    }

    /// Stages a pool of local addresses for all services.
    pub fn set_locals(&self, addresses: &[rules::Ip]) {
        self.kernel.enter(|| edit::set_locals(addresses));
    }

    /// What is staged comes into force, with the tables and rosters that follow from it.
    pub fn commit(&self) {
        self.kernel.enter(|| {
            self.changed.borrow_mut().drain(..).for_each(edit::build);
            edit::commit();
        });
    }

    /// Notes that a service's list has changed.
    fn note(&self, service: ServiceId) {
        let mut changed = self.changed.borrow_mut();
        if !changed.contains(&service) {
            changed.push(service);
        }
    }

    /// Enters connections that another director told of: what became of each.
    ///
    /// # Panics
    /// If there are more than [`INCOMING`].
    pub fn import(&mut self, all: &[Told]) -> Vec<Told> {
        assert!(all.len() <= INCOMING as usize, "more connections than the map has elements");
        let place = |at: usize| element(&maps::INCOMING, at as u32).expect("an element of the map");
        self.kernel.enter(|| all.iter().enumerate().for_each(|(at, incoming)| place(at).store(*incoming)));
        self.cpu.call(&self.kernel, entry::IMPORT, [0, 0, all.len() as u32, 0, 0]);
        self.kernel.enter(|| (0..all.len()).map(|at| place(at).load()).collect())
    }

    /// Lets time pass, with the sweep at work.
    pub fn pass(&self, milliseconds: u64) {
        packet::seed(&self.kernel);
        self.kernel.pass(milliseconds * 1_000_000);
    }

    /// Packets by exit, on all CPUs.
    pub fn exits(&self) -> [u64; EXIT_COUNT as usize] {
        self.kernel.enter(|| {
            let mut all = [0; EXIT_COUNT as usize];
            for cpu in 0..sizes::CPUS {
                let Some(first) = maps::EXITS.of_cpu(cpu, 0) else { continue };
                // SAFETY: a CPU's elements stand one after another; no program runs.
                let own = unsafe { std::slice::from_raw_parts(first, all.len()) };
                all.iter_mut().zip(own).for_each(|(sum, count)| *sum += count);
            }
            all
        })
    }

    /// A destination's connections that are active, those that are not, and its templates.
    pub fn held(&self, id: DestId) -> (u32, u32, u32) {
        self.kernel.enter(|| {
            element(&maps::DESTS, id.get()).map_or((0, 0, 0), |dest| {
                let (active, inactive) = Destination::split(dest.get().connections);
                (active, inactive, dest.get().persistent)
            })
        })
    }

    /// What a destination has counted on all CPUs.
    pub fn counters(&self, id: DestId) -> Counters {
        self.kernel.enter(|| {
            let of = |cpu| element(&maps::COUNTERS, own_counters(cpu, sizes::DESTINATIONS, id));
            (0..sizes::CPUS).filter_map(of).fold(Counters::default(), |sum, row| sum.plus(row.load()))
        })
    }
}

/// Gives the current kernel's maps their sizes, as the loader does.
fn size_maps() {
    use lvs_common::abi::WAYS;
    let buckets = params::buckets4();
    maps::BUCKETS4.resize(buckets);
    maps::BUCKETS6.resize(buckets);
    maps::CONNS4.resize(buckets * WAYS);
    maps::CONNS6.resize(buckets * WAYS);
    maps::SERVICES.resize(sizes::SERVICES);
    maps::SERVICE_RATES.resize(sizes::SERVICES);
    maps::DESTS.resize(sizes::DESTINATIONS);
    maps::DEST_RATES.resize(sizes::DESTINATIONS);
    maps::COUNTERS.resize(counter_places(sizes::CPUS, sizes::DESTINATIONS));
    maps::ROSTERS.resize(1 + sizes::SERVICES * 2 * sizes::ROSTER);
    maps::SERVICE4.resize(sizes::SERVICES);
    maps::SERVICE6.resize(sizes::SERVICES);
    maps::FWMARKS.resize(sizes::SERVICES);
    maps::LOCALS.resize(sizes::LOCALS);
    maps::VERIFIED.resize(sizes::KEYS);
    for_each_cpu();
}

/// Arrays with an element for each CPU.
fn for_each_cpu() {
    macro_rules! resize {
        ($($map:ident)+) => {
            $(maps::$map.resize(sizes::CPUS);)+
        };
    }
    resize!(DRAFTS4 DRAFTS6 REQUESTS PARSED4 PARSED6 FIBS ROUTES ICMP_ERRORS4 ICMP_ERRORS6 MATCHES LINES SCRATCH);
}
