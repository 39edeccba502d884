//! What a scheduler is, beside the way it picks.

use crate::abi::{ServiceConfig, Sysctls, service_flags};
use crate::sched::change::Change;
use crate::sched::table::BucketTable;

/// What a scheduler is. Each scheduler's file has a `TRAITS`, from which the loader, the commands and the data plane take
/// what they do for it.
#[derive(Clone, Copy, Debug)]
pub struct Traits {
    /// The word of `-s`.
    pub name: &'static str,
    /// Whether it looks at every destination: then a long list gets a roster ([`roster`](crate::sched::roster)).
    pub scans: bool,
    /// Whether it reads [`ServiceConfig::weight_max`] and [`ServiceConfig::weight_gcd`].
    pub weights: bool,
    /// Whether it draws random numbers ([`PickKey::random`](crate::sched::PickKey)).
    pub random: bool,
    /// Its bucket table, if it hashes.
    pub table: Option<BucketTable>,
    /// The service's state word after a change, if the scheduler keeps one.
    pub state: Option<fn(&ServiceConfig, u64, Change) -> u64>,
    /// Seconds for which it remembers an address without a connection, if it remembers addresses.
    pub memory: Option<fn(&Sysctls) -> u32>,
    /// Flags that have a name of the scheduler's own.
    pub flags: &'static [(u32, &'static str)],
}

impl Traits {
    /// A scheduler of that name that needs nothing beside the list.
    pub const fn new(name: &'static str) -> Self {
        Traits { name, scans: false, weights: false, random: false, table: None, state: None, memory: None, flags: &[] }
    }

    /// A scheduler that looks at every destination.
    pub const fn scanning(name: &'static str) -> Self {
        Traits { scans: true, ..Self::new(name) }
    }

    /// The name of a scheduler flag: the scheduler's own if it has one, else the common one.
    pub fn flag_name(&self, flag: u32, common: &'static str) -> &'static str {
        self.flags.iter().find(|own| own.0 == flag).map_or(common, |own| own.1)
    }
}

/// The scheduler flags in the order of their bits, with the name that every scheduler understands.
pub const FLAGS: [(u32, &str); 3] =
    [(service_flags::SCHED1, "flag-1"), (service_flags::SCHED2, "flag-2"), (service_flags::SCHED3, "flag-3")];
