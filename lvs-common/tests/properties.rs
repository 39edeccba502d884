//! What holds for every list of destinations.

mod director;

use director::Service;
use lvs_common::{
    abi::{Address, DestId},
    byte_order::Be16,
    sched::{PickKey, TableDest, Turns, dh, lighter, mh, sh, wrr},
};
use proptest::prelude::*;

/// Weighted round robin taken at its word: visit by visit, pass by pass.
struct Literal {
    /// Weights and overload, by position.
    dests: Vec<(u32, bool)>,
    /// Position picked last.
    last: Option<usize>,
    threshold: i64,
}

impl Literal {
    /// The position picked. It gives up once every destination was tried at the lowest threshold: at the end of the list, or,
    /// if it began at the lowest threshold after `last`, back there.
    fn pick(&mut self, top: i64, fall: i64) -> Option<usize> {
        if top == 0 {
            return None;
        }
        let (begin, mut tried) = (self.last, vec![false; self.dests.len()]);
        let began_lowest = self.threshold <= fall;
        let mut at = begin.map_or(0, |last| last + 1);
        loop {
            if at == self.dests.len() {
                at = 0;
                self.threshold -= fall;
                if self.threshold <= 0 {
                    self.threshold = top;
                    if tried.iter().all(|tried| *tried) {
                        self.last = None;
                        return None;
                    }
                }
            }
            let (weight, overloaded) = self.dests[at];
            if !overloaded && i64::from(weight) >= self.threshold {
                self.last = Some(at);
                return Some(at);
            }
            tried[at] |= self.threshold <= fall;
            if began_lowest && begin == Some(at) && tried.iter().all(|tried| *tried) {
                return None;
            }
            at += 1;
        }
    }
}

#[derive(Clone, Debug)]
enum Act {
    Pick(u32),
    Overload(usize, bool),
    Weigh(usize, u32),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (1..12u32).prop_map(Act::Pick),
        3 => (0..8usize, any::<bool>()).prop_map(|(i, yes)| Act::Overload(i, yes)),
        1 => (0..8usize, weight()).prop_map(|(i, weight)| Act::Weigh(i, weight)),
    ]
}

fn weight() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), 1..8u32, (1..5u32).prop_map(|n| n * 12), 1..400u32]
}

fn weights() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(weight(), 1..8)
}

/// The destination at a position of the list, which is newest-first.
fn at_position(service: &Service, position: usize) -> DestId {
    service.order[position]
}

proptest! {
    #[test]
    fn wrr_is_the_literal_sequence_in_two_passes(
        weights in weights(), acts in prop::collection::vec(act(), 1..40)
    ) {
        let mut service = Service::new("wrr", &weights);
        let view = |service: &Service| -> Vec<(u32, bool)> {
            service.order.iter().map(|&id| &service.servers[id.get() as usize - 1]).map(|s| (s.weight, s.overloaded)).collect()
        };
        let start = wrr::State::unpack(service.state);
        let mut literal = Literal { dests: view(&service), last: None, threshold: start.threshold.into() };
        for act in acts {
            match act {
                Act::Overload(i, yes) => {
                    let i = i % weights.len();
                    service.servers[i].overloaded = yes;
                    literal.dests = view(&service);
                }
                Act::Weigh(i, weight) => {
                    let server = service.servers[i % weights.len()].socket;
                    service.command(&format!("-e -t 192.0.2.1:80 -r {server} -w {weight}"));
                    let threshold = wrr::State::unpack(service.state).threshold.into();
                    literal = Literal { dests: view(&service), last: None, threshold };
                }
                Act::Pick(n) => for _ in 0..n {
                    let top = wrr::top(&service.config).into();
                    let expected = literal.pick(top, service.config.weight_gcd.into());
                    service.steps.set(0);
                    let dest = service.pick(&PickKey::default());
                    prop_assert!(service.steps.get() as usize <= 2 * weights.len() + 1);
                    prop_assert_eq!(dest, expected.map_or(DestId::NONE, |at| at_position(&service, at)));
                    let state = wrr::State::unpack(service.state);
                    prop_assert_eq!(state.last, literal.last.map_or(DestId::NONE, |at| at_position(&service, at)));
                    prop_assert_eq!(i64::from(state.threshold), literal.threshold);
                },
            }
        }
    }

    #[test]
    fn wrr_gives_every_destination_its_share_of_a_cycle(weights in weights(), skipped in 0..50usize) {
        let mut service = Service::new("wrr", &weights);
        let gcd = service.config.weight_gcd;
        (0..skipped).for_each(|_| { service.pick(&PickKey::default()); });
        let cycle: u32 = weights.iter().sum::<u32>() / gcd;
        let mut counts = vec![0; weights.len()];
        for _ in 0..cycle {
            counts[service.pick(&PickKey::default()).get() as usize - 1] += gcd;
        }
        prop_assert_eq!(counts, weights);
    }

    #[test]
    fn rr_gives_every_usable_destination_one_pick_of_a_cycle(weights in weights(), skipped in 0..20usize) {
        let mut service = Service::new("rr", &weights);
        (0..skipped).for_each(|_| { service.pick(&PickKey::default()); });
        let usable: Vec<DestId> = (1..).zip(&weights).filter(|(_, weight)| **weight > 0).map(|(id, _)| DestId::new(id)).collect();
        let mut cycle: Vec<DestId> = usable.iter().map(|_| service.pick(&PickKey::default())).collect();
        cycle.sort_unstable();
        prop_assert_eq!(cycle, usable);
    }

    #[test]
    fn the_weighted_compare_is_that_of_the_quotients(
        load in 0..1u64 << 33, weight in 1..1u32 << 31, best_load in 0..1u64 << 33, best_weight in 1..1u32 << 31
    ) {
        let exact = u128::from(load) * u128::from(best_weight) < u128::from(best_load) * u128::from(weight);
        prop_assert_eq!(lighter(load, weight, best_load, best_weight), exact);
    }

    #[test]
    fn scans_find_a_best_destination(
        dests in prop::collection::vec((1..9u32, 0..9u32, 0..9u32, any::<bool>()), 1..12)
    ) {
        for scheduler in ["lc", "wlc", "sed", "nq", "fo", "ovf"] {
            let weights: Vec<u32> = dests.iter().map(|dest| dest.0).collect();
            let mut service = Service::new(scheduler, &weights);
            for (server, (_, active, inactive, overloaded)) in service.servers.iter_mut().zip(&dests) {
                (server.active, server.inactive, server.overloaded) = (*active, *inactive, *overloaded);
            }
            // The cost of each as a fraction, in the order of the list; the first of the cheapest must be picked.
            let best = service.order.iter().filter_map(|&id| {
                let s = &service.servers[id.get() as usize - 1];
                let overhead = f64::from(256 * s.active + s.inactive);
                let delay = f64::from(s.active + 1);
                let cost = match scheduler {
                    "lc" => overhead,
                    "wlc" => overhead / f64::from(s.weight),
                    "nq" if s.active == 0 => -1.0,
                    "sed" | "nq" => delay / f64::from(s.weight),
                    "ovf" if s.active > s.weight => return None,
                    _ => -f64::from(s.weight),
                };
                (!s.overloaded).then_some((id, cost))
            }).reduce(|best, other| if other.1 < best.1 { other } else { best });
            let pick = service.pick(&PickKey::default());
            prop_assert_eq!(pick, best.map_or(DestId::NONE, |(id, _)| id), "{}", scheduler);
        }
    }

    #[test]
    fn rosters_lead_to_the_same_picks_as_lists(
        dests in prop::collection::vec((weight(), 0..9u32, 0..9u32, prop::bool::weighted(0.2)), 0..60),
        keys in prop::collection::vec(any::<(u8, [u32; 2])>(), 1..8)
    ) {
        for scheduler in ["lc", "wlc", "sed", "nq", "fo", "ovf", "twos", "lblc", "lblcr"] {
            let weights: Vec<u32> = dests.iter().map(|dest| dest.0).collect();
            let [mut listed, mut rostered] = [false, true].map(|rostered| {
                let mut service = Service { rostered, ..Service::new(scheduler, &weights) };
                for (server, (_, active, inactive, overloaded)) in service.servers.iter_mut().zip(&dests) {
                    (server.active, server.inactive, server.overloaded) = (*active, *inactive, *overloaded);
                }
                service
            });
            for (virt, random) in &keys {
                let virt = Address::v4([192, 0, 2, virt % 4]);
                let key = PickKey { virt, random: *random, ..PickKey::default() };
                let (dest, other) = (listed.pick(&key), rostered.pick(&key));
                prop_assert_eq!(dest, other, "{}", scheduler);
                if dest.is_some() {
                    listed.bind_active(dest);
                    rostered.bind_active(dest);
                }
            }
        }
    }

    #[test]
    fn tables_have_no_empty_slot(weights in prop::collection::vec(0..200u32, 1..300)) {
        let dests = table_dests(&weights);
        let mut slots = [DestId::NONE; sh::BUCKETS];
        sh::build(&dests, &mut slots);
        prop_assert!(slots.iter().all(|slot| slot.is_some()));
        dh::build(&dests, &mut slots);
        prop_assert!(slots.iter().all(|slot| slot.is_some()));
        let slots = maglev(&dests);
        let any = weights.iter().any(|weight| *weight > 0);
        prop_assert!(slots.iter().all(|slot| slot.is_some() == any));
    }

    #[test]
    fn maglev_shares_are_equal_for_equal_weights(n in 1..500usize, weight in 1..1000u32) {
        let slots = maglev(&table_dests(&vec![weight; n]));
        let mut counts = vec![0usize; n];
        slots.iter().for_each(|slot| counts[slot.get() as usize - 1] += 1);
        let equal = mh::SLOTS / n;
        prop_assert!(counts.iter().all(|count| (equal..=equal + 1).contains(count)));
    }

    #[test]
    fn maglev_moves_little_when_a_destination_goes(n in 2..100usize, gone in 0..100usize) {
        let mut dests = table_dests(&vec![1; n]);
        let before = maglev(&dests);
        let gone = dests.remove(gone % n).id;
        let after = maglev(&dests);
        let moved = before.iter().zip(after.iter()).filter(|(old, new)| **old != gone && old != new).count();
        prop_assert!(moved < mh::SLOTS / 4, "{} of {} slots moved", moved, mh::SLOTS);
    }
}

fn table_dests(weights: &[u32]) -> Vec<TableDest> {
    (1..)
        .zip(weights)
        .map(|(id, &weight)| TableDest {
            id: DestId::new(id),
            weight,
            last_weight: weight,
            address: Address::v4((0x0a01_0000 + id).to_be_bytes()),
            port: Be16::new(80),
        })
        .collect()
}

fn maglev(dests: &[TableDest]) -> Box<[DestId; mh::SLOTS]> {
    let mut slots = Box::new([DestId::NONE; mh::SLOTS]);
    assert!(mh::build(dests, &mut vec![Turns::default(); dests.len()], &mut slots));
    slots
}

#[test]
fn a_heavy_overloaded_destination_costs_wrr_no_more_than_two_passes() {
    let mut service = Service::new("wrr", &[65535, 1, 2]);
    service.servers[0].overloaded = true;
    let picks: Vec<DestId> = (0..6)
        .map(|_| {
            service.steps.set(0);
            let dest = service.pick(&PickKey::default());
            assert!(service.steps.get() <= 7);
            dest
        })
        .collect();
    assert_eq!(picks, [3, 2, 3, 3, 2, 3].map(DestId::new));
}
