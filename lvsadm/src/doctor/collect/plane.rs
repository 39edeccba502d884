//! What the data plane says of itself.

use std::collections::HashMap;
use std::net::IpAddr;

use anyhow::Result;
use lvs_common::abi::Forward;
use lvs_director::dataplane::{Defence, Plane, PlaneDirector};
use lvs_director::director::Director;
use lvs_director::rules::{Family, LocalEntry, ServiceEntry};

use super::super::facts::{Service, Tables};

/// States in which a connection waits for the real server's first answer.
const WAITING: [&str; 2] = ["SYN_RECV", "SYN_SENT"];

/// The tables.
pub fn tables(plane: &Plane) -> Tables {
    let Defence { held, room, .. } = Defence::of(plane);
    let (buckets, full) = plane.full_buckets();
    let settings = plane.settings();
    let (_, services, destinations) = plane.sizes();
    Tables {
        held: held.map(|(family, held)| (family.name(), held)).into(),
        room,
        buckets,
        full: [Family::V4, Family::V6].into_iter().zip(full).map(|(family, full)| (family.name(), full)).collect(),
        // Place 0 is none.
        services: (settings.services_used - 1, services),
        destinations: (settings.dests_used - 1, destinations),
    }
}

/// Services, and all local addresses.
pub fn services(director: &PlaneDirector, entries: &[ServiceEntry]) -> Result<(Vec<Service>, Vec<LocalEntry>)> {
    let default = director.locals(None)?;
    let (mut services, mut all) = (Vec::new(), default.clone());
    for entry in entries {
        let key = entry.service.key;
        let own = director.locals(Some(&key))?;
        let pool = if own.is_empty() { &default } else { &own };
        let is_there = |family| pool.iter().any(|local| Family::of(local.address) == family);
        let mut full_nat = entry.destinations.iter().filter(|dest| dest.destination.forward == Forward::FullNat);
        services.push(Service {
            key,
            servers: entry.destinations.len(),
            usable: entry.destinations.iter().filter(|dest| dest.destination.weight != 0).count(),
            has_locals: full_nat.all(|dest| is_there(dest.destination.family())),
        });
        all.extend(own);
    }
    all.sort_by_key(|local| local.address);
    all.dedup_by_key(|local| local.address);
    Ok((services, all))
}

/// Of each real server's address and port: the connections that wait for its first answer, and all.
pub fn waiting(director: &PlaneDirector) -> Result<HashMap<(IpAddr, u16), (u32, u32)>> {
    let mut counts = HashMap::<_, (u32, u32)>::new();
    director.connections(&mut |connection| {
        let (waiting, all) = counts.entry(connection.real).or_default();
        *waiting += u32::from(WAITING.contains(&connection.state));
        *all += 1;
    })?;
    Ok(counts)
}
