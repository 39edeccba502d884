//! Sequences and tables of IPVS's schedulers on small services with destinations A, B, C, added in that order.

mod director;

use director::{Service, address};
use lvs_common::{
    abi::{DestId, service_flags},
    byte_order::Be16,
    sched::{PickKey, locality, mh},
};

fn letter(dest: DestId) -> char {
    if dest.is_none() { '-' } else { char::from_u32('A' as u32 + dest.get() - 1).unwrap() }
}

/// The next picks of a service, whose connections all stay active.
fn picks(service: &mut Service, n: usize) -> String {
    (0..n)
        .map(|_| {
            let dest = service.pick(&PickKey::default());
            if dest.is_some() {
                service.bind_active(dest);
            }
            letter(dest)
        })
        .collect()
}

#[test]
fn round_robins() {
    assert_eq!(picks(&mut Service::new("rr", &[1, 1, 1]), 6), "CBACBA");
    assert_eq!(picks(&mut Service::new("wrr", &[4, 3, 2]), 21), "CBAABACBACBAABACBACBA");
    assert_eq!(picks(&mut Service::new("wrr", &[10, 20]), 9), "BABBABBAB");
    assert_eq!(picks(&mut Service::new("wrr", &[100, 50]), 6), "BAABAA");
    assert_eq!(picks(&mut Service::new("wrr", &[5, 1]), 12), "BAAAAABAAAAA");
}

#[test]
fn wrr_attached_to_destinations_that_are_there_starts_at_the_top() {
    let mut service = Service::new("rr", &[4, 3, 2]);
    service.command("-E -t 192.0.2.1:80 -s wrr");
    assert_eq!(picks(&mut service, 9), "ABACBACBA");
}

#[test]
fn wrr_depends_on_the_order_of_addition() {
    // A was added last: C2, B3, A4. As letters go by addition, A is C here and C is A.
    let mut service = Service::new("wrr", &[2, 3, 4]);
    assert_eq!(picks(&mut service, 12), "CBACCBCBACBA");
}

#[test]
fn a_quiesced_destination_leaves_the_sequence() {
    let mut service = Service::new("wrr", &[4, 3, 2]);
    picks(&mut service, 12);
    service.command("-e -t 192.0.2.1:80 -r 10.1.1.3:80 -w 0");
    assert_eq!(picks(&mut service, 14), "BAABABABAABABA");
}

#[test]
fn least_loads() {
    assert_eq!(picks(&mut Service::new("lc", &[1, 1, 1]), 6), "CBACBA");
    assert_eq!(picks(&mut Service::new("wlc", &[4, 3, 2]), 18), "CBAABCABACBAABCABA");
    assert_eq!(picks(&mut Service::new("sed", &[4, 3, 2]), 18), "ABCABACBAABCABACBA");
    assert_eq!(picks(&mut Service::new("nq", &[4, 3, 2]), 15), "CBAABACBAABCABA");
    assert_eq!(picks(&mut Service::new("sed", &[1, 2, 3]), 6), "CBCCBA");
    assert_eq!(picks(&mut Service::new("nq", &[1, 2, 3]), 12), "CBACCBCBCCBA");
}

#[test]
fn round_robin_goes_on_before_a_removed_destination() {
    let mut service = Service::new("rr", &[1, 1, 1, 1]);
    assert_eq!(picks(&mut service, 2), "DC");
    service.command("-d -t 192.0.2.1:80 -r 10.1.1.3:80");
    assert_eq!(picks(&mut service, 4), "BADB");
    service.command("-a -t 192.0.2.1:80 -r 10.1.1.3:80");
    assert_eq!(picks(&mut service, 3), "ACD", "one that comes back is the newest");
    service.command("-d -t 192.0.2.1:80 -r 10.1.1.4:80");
    service.command("-d -t 192.0.2.1:80 -r 10.1.1.3:80");
    assert_eq!(picks(&mut service, 2), "BA", "before the head is the start");
}

#[test]
fn services_without_usable_destinations_pick_none() {
    for name in lvs_common::sched::SCHEDULERS.iter().map(|(_, traits)| traits.name) {
        assert_eq!(picks(&mut Service::new(name, &[]), 2), "--", "{name}");
        assert_eq!(picks(&mut Service::new(name, &[0, 0]), 2), "--", "{name}");
        let mut overloaded = Service::new(name, &[3, 5]);
        overloaded.servers.iter_mut().for_each(|server| server.overloaded = true);
        assert_eq!(picks(&mut overloaded, 2), "--", "{name}");
        if name != "none" {
            assert_ne!(picks(&mut Service::new(name, &[1]), 1), "-", "{name}");
        }
    }
}

/// A (weight 4), B (3), C (2), at 10.1.1.1..3 port 80: what the tables below are of.
fn weighted(scheduler: &str) -> Service {
    Service::new(scheduler, &[4, 3, 2])
}

fn shares(service: &Service) -> [usize; 3] {
    [1, 2, 3].map(|dest| service.table.iter().filter(|slot| slot.get() == dest).count())
}

/// Where a client, and its port unless 0, goes.
fn client(service: &mut Service, ip: [u8; 4], port: u16) -> char {
    service.config.flags = if port == 0 { 0 } else { service_flags::SCHED2 };
    letter(service.pick(&PickKey {
        client: address(ip.into()),
        client_port: if port == 0 { Be16::new(4711) } else { Be16::new(port) },
        ..PickKey::default()
    }))
}

#[test]
fn source_hashing() {
    let mut service = weighted("sh");
    let start: String = service.table[..9].iter().map(|dest| letter(*dest)).collect();
    assert_eq!(start, "CCBBBAAAA");
    assert_eq!(shares(&service), [112, 86, 58]);
    assert_eq!(client(&mut service, [10, 0, 0, 1], 0), 'B');
    assert_eq!(client(&mut service, [10, 0, 0, 2], 0), 'B');
    assert_eq!(client(&mut service, [192, 168, 1, 5], 0), 'A');
    assert_eq!(client(&mut service, [203, 0, 113, 7], 0), 'A');
    assert_eq!(client(&mut service, [192, 168, 1, 5], 54321), 'A');
}

#[test]
fn destination_hashing() {
    let mut service = weighted("dh");
    let start: String = service.table[..5].iter().map(|dest| letter(*dest)).collect();
    assert_eq!(start, "CBACB");
    for ip in [[10, 0, 0, 100], [192, 0, 2, 1]] {
        let key = PickKey { virt: address(ip.into()), ..PickKey::default() };
        assert_eq!(letter(service.pick(&key)), 'A');
    }
}

#[test]
fn maglev() {
    let mut service = weighted("mh");
    assert_eq!(shares(&service), [1818, 1365, 910]);
    assert_eq!(service.table[2042].get(), 3, "C's first slot");
    assert_eq!(service.table[3983].get(), 2, "B's first slot");
    assert_eq!(service.table[2947].get(), 1, "A's first slot");
    assert_eq!(client(&mut service, [10, 0, 0, 1], 0), 'A');
    assert_eq!(client(&mut service, [10, 0, 0, 2], 0), 'C');
    assert_eq!(client(&mut service, [192, 168, 1, 5], 0), 'C');
    assert_eq!(client(&mut service, [203, 0, 113, 7], 0), 'B');
    assert_eq!(client(&mut service, [192, 168, 1, 5], 54321), 'A');
}

#[test]
fn maglev_keeps_its_table_when_a_destination_is_quiesced() {
    let mut service = weighted("mh");
    let before = service.table.clone();
    service.command("-e -t 192.0.2.1:80 -r 10.1.1.3:80 -w 0");
    assert_eq!(service.table, before);
    assert_eq!(client(&mut service, [10, 0, 0, 2], 0), '-');
    service.config.flags = service_flags::SCHED1;
    let key = PickKey { client: address([10, 0, 0, 2].into()), ..PickKey::default() };
    assert!(service.pick(&key).is_some());
}

#[test]
fn maglev_refuses_more_destinations_than_slots() {
    let dests = vec![lvs_common::sched::TableDest::default(); mh::SLOTS + 1];
    let mut slots = Box::new([DestId::new(7); mh::SLOTS]);
    assert!(!mh::build(&dests, &mut vec![lvs_common::sched::Turns::default(); dests.len()], &mut slots));
    assert!(slots.iter().all(|slot| slot.is_none()));
}

#[test]
fn two_choices_follow_weights_and_loads() {
    let mut service = Service::new("twos", &[1, 2, 5]);
    let mut counts = [0u32; 4];
    let mut random = fastrand::Rng::with_seed(1);
    let mut draw = || random.u32(..);
    for _ in 0..90_000 {
        let dest = service.pick(&PickKey { random: [draw(), draw()], ..PickKey::default() });
        counts[dest.get() as usize] += 1;
    }
    // Without load the first draw decides. Of 0 to 8, C has those up to 5, B those up to 7, A the 8. The bounds are
    // more than four standard deviations wide.
    for (dest, of_nine) in [(0, 0), (1, 1), (2, 2), (3, 6)] {
        assert!(counts[dest].abs_diff(90_000 * of_nine / 9) < 600, "{counts:?}");
    }
    // Under load they even out by weight.
    for _ in 0..8_000 {
        let dest = service.pick(&PickKey { random: [draw(), draw()], ..PickKey::default() });
        service.bind_active(dest);
    }
    let active: Vec<u32> = service.servers.iter().map(|server| server.active).collect();
    for (active, of_eight) in active.iter().zip([1, 2, 5]) {
        assert!(active.abs_diff(8_000 * of_eight / 8) < 60, "{active:?}");
    }
}

/// Schedules for an address at a time.
fn at(service: &mut Service, ip: [u8; 4], now: u64) -> char {
    let dest = service.pick(&PickKey { virt: address(ip.into()), now, ..PickKey::default() });
    service.bind_active(dest);
    letter(dest)
}

#[test]
fn locality_keeps_an_address_where_it_is_until_that_is_crowded() {
    let mut service = Service::new("lblc", &[4, 4]);
    let here: String = (0..6).map(|now| at(&mut service, [198, 51, 100, 1], now)).collect();
    assert_eq!(here, "BBBBBA", "with five active of four, and A less than half full, it moves");
    assert_eq!(at(&mut service, [198, 51, 100, 1], 7), 'A', "and stays there");
    service.servers[0].overloaded = true;
    assert_eq!(at(&mut service, [198, 51, 100, 1], 8), 'A', "thresholds do not move it");
    service.command("-d -t 192.0.2.1:80 -r 10.1.1.1:80");
    assert_eq!(at(&mut service, [198, 51, 100, 1], 9), 'B', "deletion does");
}

#[test]
fn a_set_grows_under_load_and_shrinks_with_time() {
    let mut service = Service::new("lblcr", &[4, 4]);
    let ip = [198, 51, 100, 1];
    let here: String = (0..6).map(|now| at(&mut service, ip, now)).collect();
    assert_eq!(here, "BBBBBA");
    let key = address(ip.into());
    assert_eq!(service.entries.borrow()[&key].dests[..3], [1, 2, 0].map(DestId::new), "both serve it now");
    assert_eq!(at(&mut service, ip, 5 + 86400), 'A');
    assert_eq!(service.entries.borrow()[&key].dests[1], DestId::new(2), "not yet");
    assert_eq!(at(&mut service, ip, 6 + 86400), 'A');
    assert_eq!(service.entries.borrow()[&key].dests[..2], [1, 0].map(DestId::new), "the most loaded went");
    assert_eq!(service.entries.borrow()[&key].used, 6 + 86400);
}

#[test]
fn a_full_set_replaces_its_oldest_member() {
    let mut service = Service::new("lblcr", &[1; locality::SET + 2]);
    let ip = [198, 51, 100, 1];
    let mut seen = Vec::new();
    for _ in 0..locality::SET + 2 {
        let dest = service.pick(&PickKey { virt: address(ip.into()), ..PickKey::default() });
        (0..2).for_each(|_| service.bind_active(dest));
        seen.insert(0, dest);
    }
    assert_eq!(service.entries.borrow()[&address(ip.into())].dests[..], seen[..locality::SET]);
}

#[test]
fn every_scheduler_has_a_number_and_a_row() {
    let mut numbers: Vec<u8> = lvs_common::sched::SCHEDULERS.iter().map(|(scheduler, _)| *scheduler as u8).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..numbers.len() as u8).collect::<Vec<u8>>());
}
