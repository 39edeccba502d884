//! Lists of clients, of all services and of each.

use lvs_director::dataplane::PlaneDirector;
use lvs_director::director::Result;
use lvs_director::rules::{AccessEntry, AccessKind, Family};

/// How many clients of each family are on all lists of a kind together.
pub fn sizes(director: &PlaneDirector) -> Result<Vec<(AccessKind, Family, usize)>> {
    let mut sizes = Vec::new();
    for kind in AccessKind::ALL {
        let entries = director.all_access(kind)?;
        for family in [Family::V4, Family::V6] {
            let of = |entry: &&AccessEntry| Family::of(entry.rule.prefix.address) == family;
            sizes.push((kind, family, entries.iter().filter(of).count()));
        }
    }
    Ok(sizes)
}
