//! All facts of this network namespace.

use anyhow::{Context, Result};
use lvs_director::dataplane::{Defaults, Plane, PlaneDirector};
use lvs_director::director::{Director, Wanted};

use super::super::facts::Facts;
use super::{devices, host, plane as tables, servers};
use crate::firewall;
use crate::network::Network;

/// Gathers the facts of a data plane. Only with `asks` are other hosts asked.
pub fn collect(plane: Plane, asks: bool) -> Result<Facts> {
    let mut facts = Facts {
        host: host::host(&plane)?,
        devices: devices::devices(&plane, Defaults::read()?.mode)?,
        tables: tables::tables(&plane),
        sysctls: plane.settings().sysctls,
        sync_lost: plane.sync().lost,
        exits: plane.exits()?.into_iter().map(|(exit, _, packets)| (exit, packets)).collect(),
        ..Facts::default()
    };
    facts.ports = facts.sysctls.lport_max - facts.sysctls.lport_min + 1;
    let mut director = PlaneDirector::new(plane);
    let services = director.services(Wanted { destinations: true, statistics: true, rates: false })?;
    (facts.services, facts.locals) = tables::services(&director, &services)?;
    // A large table takes its time, and so do other hosts.
    director.unlock();
    let waiting = tables::waiting(&director)?;
    drop(director);
    let network = Network::read().context("cannot ask the kernel for routes and neighbours")?;
    (facts.vips, facts.servers) = servers::servers(&services, &waiting, &network);
    facts.chains = firewall::chains(&facts.vips.iter().map(|vip| vip.address).collect());
    if asks {
        servers::ask(&mut facts, &network).context("cannot ask other hosts")?;
    }
    Ok(facts)
}
