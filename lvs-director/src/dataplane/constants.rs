//! The constants of the programs' read-only data, the same for all objects that share maps.

use std::path::Path;

use aya::EbpfLoader;
use aya::maps::{Array, Map, MapData};
use aya_obj::generated::bpf_map_type;

use super::cpus;
use super::error::{Context, Result};
use super::kernel::{kernel_at_least, ticks_per_second};
use super::loading::Loading;
use super::pinned::elements;
use super::pins;
use super::sizes::buckets;
use crate::rules::LogLevel;

/// The map that keeps the random ones for objects that are loaded later: the hash's secret and the two words of the challenges'
/// key.
const SECRETS: &str = "SECRETS";

/// The constants.
#[derive(Debug)]
pub struct Constants {
    /// The least level of the log.
    level: u8,
    hz: u32,
    secret: u64,
    challenge_key: [u64; 2],
    /// Buckets of each family's connection table.
    pub buckets: u32,
    /// Places for destinations.
    pub destinations: u32,
    /// CPUs that have counters of their own.
    pub cpus: u32,
    fib_source: u32,
    fib_skips_neighbour: u32,
}

impl Constants {
    /// Of a data plane to be.
    pub fn new(loading: &Loading) -> Result<Self> {
        let random = || getrandom::u64().ok().context("the kernel gave no random numbers");
        let secrets = [random()?, random()?, random()?];
        let sizes = loading.sizes;
        Self::with(loading.log.number(), buckets(sizes.connections), sizes.destinations, cpus::present()?, secrets)
    }

    /// Of the data plane that is loaded in a directory, of whatever build.
    pub fn of(directory: &Path) -> Result<Self> {
        let context = || "this data plane was loaded without map SECRETS: `lvsadm unload`, and load it anew";
        let map = MapData::from_pin(directory.join(SECRETS)).with_context(context)?;
        let map = Array::<_, u64>::try_from(Map::from_map_data(map).with_context(context)?)?;
        let secret = |index| map.get(&index, 0).context("cannot read map SECRETS");
        let secrets = [secret(0)?, secret(1)?, secret(2)?];
        let elements = |name: &str| elements(&directory.join(name));
        let (destinations, counters) = (elements("DESTS")?, elements("COUNTERS")?);
        let rows = counters.checked_div(destinations).context("the data plane has no destinations")?;
        Self::with(
            pins::log_level(directory).number(),
            elements("BUCKETS4")?,
            destinations,
            rows.saturating_sub(1),
            secrets,
        )
    }

    fn with(level: u8, buckets: u32, destinations: u32, cpus: u32, secrets: [u64; 3]) -> Result<Self> {
        let [secret, first, other] = secrets;
        Ok(Constants {
            level,
            hz: ticks_per_second(),
            secret,
            challenge_key: [first, other],
            buckets,
            destinations,
            cpus,
            fib_source: u32::from(kernel_at_least(6, 7)),
            fib_skips_neighbour: u32::from(kernel_at_least(6, 3)),
        })
    }

    /// With another log.
    pub fn with_log(self, level: LogLevel) -> Self {
        Constants { level: level.number(), ..self }
    }

    /// The secret of the connection tables' hash.
    pub fn secret(&self) -> u64 {
        self.secret
    }

    /// Has a loader set them. An object need not have all of them.
    pub fn override_in<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        loader
            .override_global(aya_log::LEVEL, &self.level, false)
            .override_global("HZ", &self.hz, false)
            .override_global("SECRET", &self.secret, false)
            .override_global("CHALLENGE_KEY", &self.challenge_key, false)
            .override_global("BUCKETS4_COUNT", &self.buckets, false)
            .override_global("BUCKETS6_COUNT", &self.buckets, false)
            .override_global("DEST_COUNT", &self.destinations, false)
            .override_global("CPU_COUNT", &self.cpus, false)
            .override_global("FIB_SOURCE", &self.fib_source, false)
            .override_global("FIB_SKIPS_NEIGHBOUR", &self.fib_skips_neighbour, false);
    }

    /// Keeps the random ones in a directory of pins.
    pub fn pin(&self, directory: &Path) -> Result<()> {
        let kind = bpf_map_type::BPF_MAP_TYPE_ARRAY as u32;
        let map = aya_obj::Map::new_from_params(kind, size_of::<u32>() as u32, size_of::<u64>() as u32, 3, 0);
        let map = MapData::create(map, SECRETS, None).context("cannot make map SECRETS")?;
        let mut map = Array::<_, u64>::try_from(Map::Array(map))?;
        for (index, secret) in (0..).zip([self.secret, self.challenge_key[0], self.challenge_key[1]]) {
            map.set(index, secret, 0).context("cannot write map SECRETS")?;
        }
        map.pin(directory.join(SECRETS)).context("cannot pin map SECRETS")
    }
}
