//! Tables and how full they are.

use lvs_common::abi::WAYS;

use super::super::facts::{Facts, Tables};
use super::super::finding::Found;

/// Per cent of a table from which on it is told of.
const MUCH: u64 = 80;
/// Per cent up to which a table that was full once is no concern any more.
const HALF: u64 = 50;

/// Per cent.
fn percent(part: u32, whole: u32) -> u64 {
    u64::from(part) * 100 / u64::from(whole.max(1))
}

pub fn fill(facts: &Facts) -> Vec<Found> {
    let Tables { held, room, .. } = &facts.tables;
    let refused = facts.exits.get("drop-table-full").copied().unwrap_or_default();
    let mend = |held: u32| format!("lvsadm resize --conns {}", u64::from(held.max(*room)) * 2);
    let and_refused = match refused {
        0 => String::new(),
        _ => format!("; {refused} new connections were refused"),
    };
    let full = |(family, held): &(&str, u32)| {
        let what = format!("{held} of {room} places for {family} are taken");
        match percent(*held, *room) {
            100.. => Some(Found::failure(format!("{what}: the table is full{and_refused}"), mend(*held))),
            MUCH.. => Some(Found::warning(format!("{what}{and_refused}"), mend(*held))),
            _ => None,
        }
    };
    let mut found: Vec<Found> = held.iter().filter_map(full).collect();
    // A table with much room again has been resized, or its flood is over: `status` and metrics keep the number.
    let is_roomy = held.iter().all(|(_, held)| percent(*held, *room) <= HALF);
    if refused != 0 && found.is_empty() && !is_roomy {
        let what = format!("{refused} new connections were refused, as the table was full");
        found.push(Found::warning(what, mend(*room)));
    }
    found
}

/// The part of buckets that is full where connections are spread evenly over them, so many to each on average.
fn full_buckets(average: f64) -> f64 {
    let mut term = (-average).exp();
    let mut fewer = 0.0;
    for count in 0..WAYS {
        fewer += term;
        term *= average / f64::from(count + 1);
    }
    (1.0 - fewer).max(0.0)
}

pub fn hash(facts: &Facts) -> Vec<Found> {
    let Tables { held, buckets, full, .. } = &facts.tables;
    let uneven = held.iter().zip(full).filter_map(|((family, held), (_, full))| {
        let expected = full_buckets(f64::from(*held) / f64::from((*buckets).max(1))) * f64::from(*buckets);
        // A few of a small table are chance.
        (f64::from(*full) > expected * 4.0 + 16.0).then(|| {
            let what = format!("{full} of {buckets} buckets of {family} are full, where {expected:.0} should be");
            Found::warning(what, "lvsadm resize --conns with another number: see also lvsadm block, for who aims at it")
        })
    });
    uneven.collect()
}

pub fn places(facts: &Facts) -> Vec<Found> {
    let Tables { services, destinations, .. } = facts.tables;
    let rows = [("services", services), ("destinations", destinations)].into_iter();
    let scarce =
        rows.filter(|(_, (used, room))| *room != 0 && percent(*used, *room) >= MUCH).map(|(what, (used, room))| {
            let mend = format!("lvsadm resize --{what} {}", room * 2);
            Found::warning(format!("{used} of {room} places for {what} have been used"), mend)
        });
    scarce.collect()
}

pub fn local_ports(facts: &Facts) -> Vec<Found> {
    let mut found = Vec::new();
    for local in &facts.locals {
        let used = percent(local.connections, facts.ports);
        let what = format!(
            "{} has {} connections, of {} ports toward a real server",
            local.address, local.connections, facts.ports
        );
        let mend = "lvsadm --add-laddr -z ANOTHER-ADDRESS";
        if local.conflicts != 0 {
            found.push(Found::failure(format!("{what}; {} new connections found no free port", local.conflicts), mend));
        } else if used >= MUCH && facts.ports != 0 {
            found.push(Found::warning(what, mend));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use lvs_director::rules::LocalEntry;

    use super::super::super::finding::Level;
    use super::*;

    fn tables(tables: Tables) -> Facts {
        Facts { tables, ..Facts::default() }
    }

    #[test]
    fn a_table_is_told_of_from_four_fifths_on_and_fails_when_it_is_full() {
        let of = |held| fill(&tables(Tables { held: vec![("inet", held)], room: 1000, ..Tables::default() }));
        assert_eq!(of(799), []);
        assert_eq!(of(800)[0].level, Level::Warning);
        let full = &of(1000)[0];
        assert_eq!((full.level, full.mend.as_deref()), (Level::Failure, Some("lvsadm resize --conns 2000")));
        let refused_once = |held| {
            let mut emptied = tables(Tables { held: vec![("inet", held)], room: 1000, ..Tables::default() });
            emptied.exits.insert("drop-table-full", 1);
            fill(&emptied)
        };
        assert_eq!(refused_once(510)[0].level, Level::Warning);
        assert_eq!(refused_once(500), [], "it has room, perhaps since it was resized");
    }

    #[test]
    fn full_buckets_are_as_many_as_chance_makes_them() {
        assert!(full_buckets(0.0) == 0.0 && full_buckets(1.0) < 1e-12);
        assert!((full_buckets(12.0) - 0.1556).abs() < 0.001, "{}", full_buckets(12.0));
        let of = |held, full| {
            let (held, full) = (vec![("inet", held)], vec![("inet", full)]);
            hash(&tables(Tables { held, full, buckets: 10_000, ..Tables::default() })).len()
        };
        assert_eq!((of(120_000, 1556), of(10_000, 0), of(10_000, 500)), (0, 0, 1));
    }

    #[test]
    fn places_for_rules_are_told_of_when_they_are_scarce() {
        let of = |used| places(&tables(Tables { services: (used, 100), destinations: (5, 100), ..Tables::default() }));
        assert_eq!(of(79), []);
        assert_eq!(of(80)[0].mend.as_deref(), Some("lvsadm resize --services 200"));
    }

    #[test]
    fn local_ports_near_their_end_are_told_of() {
        let of = |connections, conflicts| {
            let local = LocalEntry { address: "192.0.2.1".parse().unwrap(), connections, conflicts };
            local_ports(&Facts { locals: vec![local], ports: 60_000, ..Facts::default() })
        };
        assert_eq!(of(40_000, 0), []);
        assert_eq!(of(50_000, 0)[0].level, Level::Warning);
        assert_eq!(of(1, 7)[0].level, Level::Failure);
    }
}
