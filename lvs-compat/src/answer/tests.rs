//! Conversations with a director in memory, in the bytes that ipvsadm and keepalived would send.

use std::net::IpAddr;

use lvs_common::abi::{Forward, Scheduler, service_flags};
use lvs_director::director::MemoryDirector;
use lvs_director::rules::{self, DestinationKey, Protocol, ServiceKey};
use proptest::prelude::*;

use super::*;
use crate::abi::{Daemon, DestinationEntry, ServiceEntry as Entry};

const TCP: u16 = 6;

fn service(port: u16, scheduler: &str) -> Service {
    let mut service = Service {
        key: Key { protocol: TCP, address: [10, 0, 0, 1], port: port.to_be_bytes(), ..Key::default() },
        netmask: [255; 4],
        ..Service::default()
    };
    service.scheduler[..scheduler.len()].copy_from_slice(scheduler.as_bytes());
    service
}

fn destination(host: u8) -> Destination {
    Destination { address: [10, 1, 0, host], port: 80u16.to_be_bytes(), weight: 1, ..Destination::default() }
}

fn pair(service: &Service, destination: &Destination) -> Vec<u8> {
    [service.bytes(), destination.bytes()].concat()
}

/// A director with a service on port 80 and destinations 1 and 2.
fn director() -> MemoryDirector {
    let mut director = MemoryDirector::default();
    set(&mut director, Set::Add, service(80, "rr").bytes()).unwrap();
    for host in [1, 2] {
        set(&mut director, Set::AddDestination, &pair(&service(80, ""), &destination(host))).unwrap();
    }
    director
}

/// Asks with a buffer of `head` and space for `entries` bytes.
fn ask(director: &dyn Director, what: Get, head: &impl Plain, entries: usize) -> Result<Vec<u8>, Errno> {
    get(director, what, head.bytes().len() + entries, head.bytes())
}

/// The structures after a head of so many bytes.
fn entries<T: Plain>(answer: &[u8], head: usize) -> Vec<T> {
    answer[head..].chunks(size_of::<T>()).map(|bytes| T::read(bytes).unwrap()).collect()
}

#[test]
fn what_was_told_is_listed() {
    let mut director = director();
    let edited = Destination { flags: 3, weight: 7, upper: 9, lower: 4, ..destination(2) };
    set(&mut director, Set::EditDestination, &pair(&service(80, ""), &edited)).unwrap();
    let persistent = Service { flags: 0x1 | 0x2 | 0x10, timeout: 300, ..service(80, "sh") };
    set(&mut director, Set::Edit, persistent.bytes()).unwrap();

    let info = Info::read(&ask(&director, Get::Info, &Info::default(), 0).unwrap()).unwrap();
    assert_eq!(info, Info { version: 0x010201, size: 4096, services: 1 });
    let head = Services { count: 1, pad: 0 };
    let answer = ask(&director, Get::Services, &head, size_of::<Entry>()).unwrap();
    let services: Vec<Entry> = entries(&answer, size_of::<Services>());
    // The kernel has every service it lists hashed.
    assert_eq!((services[0].service, services[0].destinations), (persistent, 2));

    let head = Destinations { key: service(80, "").key, count: 2, pad: 0 };
    let answer = ask(&director, Get::Destinations, &head, 2 * size_of::<DestinationEntry>()).unwrap();
    let destinations: Vec<DestinationEntry> = entries(&answer, size_of::<Destinations>());
    let told = |flags| Destination { flags, ..edited };
    assert_eq!(destinations[0].destination, told(3 | 0x80 | 0x100));
    assert_eq!(destinations[1].destination, Destination { flags: 0x100, ..destination(1) });

    set(&mut director, Set::DeleteDestination, &pair(&service(80, ""), &destination(1))).unwrap();
    let one = Entry { service: service(80, ""), ..Entry::default() };
    let answer = Entry::read(&ask(&director, Get::Service, &one, 0).unwrap()).unwrap();
    assert_eq!((answer.service, answer.destinations), (persistent, 1));
    set(&mut director, Set::Delete, service(80, "").bytes()).unwrap();
    assert_eq!(ask(&director, Get::Service, &one, 0), Err(Errno::ESRCH));
}

#[test]
fn the_version_is_the_listings_first_line() {
    let answer = get(&director(), Get::Version, 64, &[0; 64]).unwrap();
    assert_eq!(answer, b"IP Virtual Server version 1.2.1 (size=4096)\0");
}

#[test]
fn timeouts_are_set_and_told() {
    let mut director = director();
    set(&mut director, Set::Timeouts, Timeouts { tcp: 10, tcp_fin: 0, udp: 30 }.bytes()).unwrap();
    let told = Timeouts::read(&ask(&director, Get::Timeouts, &Timeouts::default(), 0).unwrap());
    assert_eq!(told, Some(Timeouts { tcp: 10, tcp_fin: 120, udp: 30 }));
    for tcp in [-1, i32::MAX] {
        let refused = set(&mut director, Set::Timeouts, Timeouts { tcp, tcp_fin: 0, udp: 0 }.bytes());
        assert_eq!(refused, Err(Errno::EINVAL));
    }
}

#[test]
fn refusals_have_the_kernels_numbers() {
    let mut director = director();
    let mut refusal = |what, argument: &[u8]| set(&mut director, what, argument).unwrap_err();
    let there = service(80, "rr");
    let (absent, gone) = (service(81, "rr"), destination(3));
    let with = |destination: Destination| pair(&there, &destination);
    for (expected, what, argument) in [
        (Errno::EEXIST, Set::Add, there.bytes().to_vec()),
        // A service that is there is told before a scheduler that is not.
        (Errno::EEXIST, Set::Add, service(80, "nonsense").bytes().to_vec()),
        (Errno::ENOENT, Set::Add, service(81, "nonsense").bytes().to_vec()),
        (Errno::ENOENT, Set::Edit, service(80, "nonsense").bytes().to_vec()),
        (Errno::ESRCH, Set::Edit, service(81, "nonsense").bytes().to_vec()),
        (Errno::EINVAL, Set::Add, service(81, "sixteen-letters-").bytes().to_vec()),
        (Errno::EINVAL, Set::Add, Service { timeout: u32::MAX, ..absent }.bytes().to_vec()),
        (Errno::EINVAL, Set::Add, there.bytes()[..43].to_vec()),
        (Errno::EFAULT, Set::Add, Service { key: Key { protocol: 1, ..absent.key }, ..absent }.bytes().to_vec()),
        (Errno::ESRCH, Set::Delete, absent.bytes().to_vec()),
        (Errno::ESRCH, Set::Zero, absent.bytes().to_vec()),
        (Errno::ESRCH, Set::AddDestination, pair(&absent, &gone)),
        (Errno::EEXIST, Set::AddDestination, with(destination(1))),
        (Errno::ENOENT, Set::EditDestination, with(gone)),
        (Errno::ENOENT, Set::DeleteDestination, with(gone)),
        (Errno::ERANGE, Set::AddDestination, with(Destination { weight: -1, ..gone })),
        (Errno::ERANGE, Set::AddDestination, with(Destination { lower: 1, ..gone })),
        (Errno::EINVAL, Set::AddDestination, with(Destination { address: [224, 0, 0, 1], ..gone })),
        (Errno::EINVAL, Set::AddDestination, with(Destination { flags: 5, ..gone })),
        (Errno::EINVAL, Set::Flush, vec![0]),
        (Errno::EINVAL, Set::StartDaemon, Daemon::default().bytes().to_vec()),
        (Errno::ENODEV, Set::StartDaemon, Daemon { state: 1, ..Daemon::default() }.bytes().to_vec()),
        (Errno::EINVAL, Set::StopDaemon, Daemon::default().bytes().to_vec()),
        (Errno::ESRCH, Set::StopDaemon, Daemon { state: 2, ..Daemon::default() }.bytes().to_vec()),
    ] {
        assert_eq!(refusal(what, &argument), expected, "{what:?} {argument:?}");
    }
    let head = Services { count: 1, pad: 0 };
    assert_eq!(ask(&director, Get::Services, &head, 0), Err(Errno::EINVAL));
    assert_eq!(ask(&director, Get::Services, &Services { count: u32::MAX, pad: 0 }, 104), Err(Errno::EINVAL));
    assert_eq!(get(&director, Get::Info, 11, &[0; 11]), Err(Errno::EINVAL));
    let none = Destinations { key: absent.key, ..Destinations::default() };
    assert_eq!(ask(&director, Get::Destinations, &none, 0), Err(Errno::ESRCH));
}

#[test]
fn a_service_without_anything_zeroes_all() {
    let mut director = director();
    director.entries[0].statistics.conns = u64::from(u32::MAX) + 8;
    let one = Entry { service: service(80, ""), ..Entry::default() };
    let conns = |director: &MemoryDirector| {
        Entry::read(&ask(director, Get::Service, &one, 0).unwrap()).unwrap().statistics.conns
    };
    // Counters are cut as the kernel's are.
    assert_eq!(conns(&director), 7);
    set(&mut director, Set::Zero, Service::default().bytes()).unwrap();
    assert_eq!(conns(&director), 0);
}

#[test]
fn what_is_not_ipv4_is_neither_counted_nor_listed() {
    let mut director = director();
    let v6: IpAddr = "2001:db8::1".parse().unwrap();
    let other = ServiceKey::Address { protocol: Protocol::Tcp, address: v6, port: 80 };
    director.add_service(&rules::Service::new(other, Scheduler::Rr)).unwrap();
    let key = ServiceKey::Address { protocol: Protocol::Tcp, address: [10, 0, 0, 1].into(), port: 80 };
    let tunnelled = rules::Destination::new(DestinationKey { address: v6, port: 80 }, Forward::Tunnel);
    director.add_destination(&key, &tunnelled).unwrap();

    let info = Info::read(&ask(&director, Get::Info, &Info::default(), 0).unwrap()).unwrap();
    let answer = ask(&director, Get::Services, &Services { count: 2, pad: 0 }, 2 * size_of::<Entry>()).unwrap();
    let services: Vec<Entry> = entries(&answer, size_of::<Services>());
    assert_eq!((info.services, services.len(), services[0].destinations), (1, 1, 2));
}

proptest! {
    #[test]
    fn a_service_is_listed_as_it_was_added(
        protocol in prop::sample::select(vec![6u16, 17, 132]), address: [u8; 4], port: [u8; 2], fwmark: u32,
        flags in 0u32..0x40, timeout in 0u32..=2_678_400, netmask: [u8; 4],
    ) {
        let flags = flags & !abi::HASHED;
        let key = if fwmark % 4 == 0 {
            Key { protocol, address, port, ..Key::default() }
        } else {
            Key { protocol: TCP, fwmark, ..Key::default() }
        };
        let told = Service { key, flags, timeout, netmask, ..service(80, "wrr") };
        let mut director = MemoryDirector::default();
        prop_assert_eq!(set(&mut director, Set::Add, told.bytes()), Ok(()));
        let listed = Entry::read(&ask(&director, Get::Service, &Entry { service: told, ..Entry::default() }, 0).unwrap());
        prop_assert_eq!(listed.unwrap().service, Service { flags: flags | abi::HASHED, ..told });
        prop_assert_eq!(director.entries[0].service.is_persistent(), flags & service_flags::PERSISTENT != 0);
    }

    #[test]
    fn no_bytes_do_harm(what in 0..16i32, length in 0usize..300, bytes in prop::collection::vec(any::<u8>(), 300)) {
        let mut director = director();
        if let Some(what) = Get::of(1152 + what) {
            let argument = &bytes[..length.min(what.least())];
            if let Ok(answer) = get(&director, what, length, argument) {
                prop_assert!(answer.len() <= length);
            }
        }
        if let Some(what) = Set::of(1152 + what) {
            // Refused or not, it neither panics nor lets anything in that the rules do not allow.
            let _ = set(&mut director, what, &bytes[..what.length()]);
        }
    }
}
