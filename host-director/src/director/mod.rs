//! A director in memory: rules and edits, packets and what becomes of them, time, and what must hold in its tables at all times.

pub mod check;
pub mod edit;
pub mod packet;
pub mod rules;
pub mod sizes;

use aya_ebpf::kernel::Kernel;
use aya_ebpf::network::Device;
use aya_ebpf::run::Tier;
use aya_ebpf::skb::{Incoming, Skb};
use aya_ebpf::xdp::Xdp;
use lvs_common::abi::{
    Counters, DEVICE_SLOTS, DestId, Device as Known, INCOMING, Incoming as Told, Settings, ServiceId, Timeouts, counter_places, device_flags, extras,
    own_counters,
};
use lvs_common::abi::sysctls::Sysctls;
use lvs_common::exit::EXIT_COUNT;

use crate::kernel::params;
use crate::kernel::shared::element;
use crate::maps;
use crate::programs_of_host::{entry, load};

/// A director with a kernel of its own.
pub struct Director {
    /// The kernel: clock, network, maps.
    pub kernel: Kernel,
    skb: Box<Skb>,
    xdp: Box<Xdp>,
    services: u32,
    dests: u32,
}

impl Director {
    /// A director without rules on a host with these devices, each of which takes what XDP sends.
    pub fn new(devices: &[Device]) -> Self {
        let director = Director {
            kernel: Kernel::new(),
            skb: Box::default(),
            xdp: Box::default(),
            services: 1,
            dests: 1,
        };
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
        self.begin();
    }

    /// The state in which `lvsadm` leaves the maps when it loads the programs.
    fn begin(&self) {
        self.kernel.enter(|| {
            edit::settings().store(Settings {
                epoch: 1,
                extras: extras::IPV6,
                timeouts: Timeouts::default(),
                sysctls: Sysctls::default(),
                ..Settings::default()
            });
            for device in &self.kernel.network.borrow().devices {
                let known = Known { ifindex: device.index, flags: device_flags::ACCEPTS_XDP, mac: device.mac };
                if let Some(place) = element(&maps::DEVICES, device.index % DEVICE_SLOTS) {
                    place.store(known);
                }
            }
        });
        self.call(entry::START, [0; 5]);
    }

    /// Runs a program that no packet comes to, with these words in its control block.
    pub fn call(&self, program: aya_ebpf::run::Program, words: [u32; 5]) -> i32 {
        let mut skb = Skb::new();
        skb.receive(&[0; 64], &Incoming::default());
        *skb.control() = words;
        self.kernel.run(Tier::Tc, program, skb.context().cast())
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
        self.kernel.enter(|| edit::add_dest(service, id, destination));
        Some(id)
    }

    /// Stages an edit of a destination.
    pub fn edit_dest(&self, service: ServiceId, id: DestId, destination: &rules::Destination) {
        self.kernel.enter(|| edit::edit_dest(service, id, destination));
    }

    /// Stages the removal of a destination.
    pub fn remove_dest(&self, service: ServiceId, id: DestId) {
        self.kernel.enter(|| edit::remove_dest(service, id));
    }

    /// Stages the return of a destination that was removed.
    pub fn put_dest(&self, service: ServiceId, id: DestId, destination: &rules::Destination) {
        self.kernel.enter(|| edit::put_dest(service, id, destination));
    }

    /// Stages a pool of local addresses for all services.
    pub fn set_locals(&self, addresses: &[rules::Ip]) {
        self.kernel.enter(|| edit::set_locals(addresses));
    }

    /// What is staged comes into force.
    pub fn commit(&self) {
        self.kernel.enter(edit::commit);
    }

    /// Enters connections that another director told of: what became of each.
    ///
    /// # Panics
    /// If there are more than [`INCOMING`].
    pub fn import(&self, all: &[Told]) -> Vec<Told> {
        assert!(all.len() <= INCOMING as usize, "more connections than the map has elements");
        let place = |at: usize| element(&maps::INCOMING, at as u32).expect("an element of the map");
        self.kernel.enter(|| all.iter().enumerate().for_each(|(at, incoming)| place(at).store(*incoming)));
        self.call(entry::IMPORT, [0, 0, all.len() as u32, 0, 0]);
        self.kernel.enter(|| (0..all.len()).map(|at| place(at).load()).collect())
    }

    /// Lets time pass, with the sweep at work.
    pub fn pass(&self, milliseconds: u64) {
        self.kernel.pass(milliseconds * 1_000_000);
    }

    /// Packets by exit, on all CPUs.
    pub fn exits(&self) -> [u64; EXIT_COUNT as usize] {
        self.kernel.enter(|| {
            std::array::from_fn(|exit| {
                let of = |cpu| maps::EXITS.of_cpu(cpu, exit as u32);
                // SAFETY: elements of the map, while no program runs.
                (0..sizes::CPUS).filter_map(of).map(|count| unsafe { *count }).sum()
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
