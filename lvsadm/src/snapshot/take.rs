//! Reading a snapshot.

use std::fmt;
use std::time::SystemTime;

use anyhow::{Result, anyhow};
use lvs_common::abi::Sync;
use lvs_director::dataplane::observe::{self, Observation};
use lvs_director::dataplane::{self, Advertisement, Defence, PlaneDirector};
use lvs_director::director::{self, Access, Director, Operation, Wanted};
use lvs_director::rules::{self, AccessKind, Daemon, DestinationEntry, Family, ServiceEntry, Statistics};

use super::lists;
use crate::render::{self, Format, Metrics};

/// See the module above.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When it was taken.
    pub taken: SystemTime,
    /// The services with everything about them, in the order of listings.
    pub services: Vec<ServiceEntry>,
    /// What was counted altogether, which never goes back.
    pub total: Statistics,
    /// Each way out of the data plane, what it means, and how many packets took it.
    pub exits: Vec<(&'static str, &'static str, u64)>,
    /// How full the connection tables are, and what is done about it.
    pub defence: Defence,
    /// How many clients of each family are on the lists of each kind.
    pub lists: Vec<(AccessKind, Family, usize)>,
    /// How many cells hold fragments that wait, and how many there are.
    pub fragments: (u32, u32),
    /// What the daemons of connection synchronisation have done.
    pub sync: Sync,
    /// Those that run.
    pub daemons: Vec<Daemon>,
    /// The addresses that routing daemons are to announce, of a director that advertises.
    pub advertised: Option<Advertisement>,
    /// Who observes packets.
    pub observed: Option<Observation>,
}

impl Snapshot {
    /// Reads the data plane of this network namespace, as listings do: commands that change something do not wait for services to be read.
    pub fn take() -> Result<Self> {
        let Some(plane) = dataplane::open(Access::Read)? else {
            return Err(anyhow!("nothing is loaded in this network namespace: there is nothing to count"));
        };
        let exits = plane.exits()?;
        let defence = Defence::of(&plane);
        let fragments = plane.fragments()?;
        let (sync, daemons) = (plane.sync(), plane.daemons()?);
        let advertised = plane.advertisement()?;
        let observed = observe::observation(&plane.directory)?;
        let mut director = PlaneDirector::new(plane);
        let lists = lists::sizes(&director).map_err(failed)?;
        director.unlock();
        let total = director.plane().total_counted();
        let services = director.services(Wanted { destinations: true, statistics: true, rates: true });
        let mut services = services.map_err(failed)?;
        let taken = SystemTime::now();
        drop(director);
        rules::hash_order(&mut services);
        let services = render::sorted(services);
        Ok(Snapshot { taken, services, total, exits, defence, lists, fragments, sync, daemons, advertised, observed })
    }

    /// Bytes of memory that most of it takes.
    pub fn bytes(&self) -> usize {
        let destinations: usize = self.services.iter().map(|entry| entry.destinations.len()).sum();
        size_of_val(&self.services[..]) + destinations * size_of::<DestinationEntry>()
    }

    /// Writes it as metrics, piece by piece.
    pub fn metrics(&self, format: Format, out: &mut dyn fmt::Write) -> fmt::Result {
        let exits: Vec<_> = self.exits.iter().map(|(exit, _, packets)| (*exit, *packets)).collect();
        render::metrics(
            Metrics {
                services: &self.services,
                total: self.total,
                exits: &exits,
                defence: &self.defence,
                lists: &self.lists,
                fragments: self.fragments,
                sync: &self.sync,
                daemons: &self.daemons,
                advertised: self.advertised.as_ref(),
                observed: self.observed,
            },
            format,
            out,
        )
    }
}

fn failed(error: director::Error) -> anyhow::Error {
    anyhow!(error.text(Operation::GetService).into_owned())
}
