//! The schedulers, as pure functions of a service's list of destinations.
//!
//! Every list is newest-first, and every tie goes to the destination that comes first, as in IPVS. Lists may be long and
//! the BPF verifier does not follow long loops, so a scheduler is a [`Walk`]: a small struct that looks at one
//! destination a step. The data plane runs its steps through the `bpf_loop` helper, tests through a plain loop. One that
//! looks at every destination in turn is a [`Visit`]: long lists show it those from a [`roster`].
//!
//! rr and wrr go on from where the last pick left off. That place is one 64-bit word: a pick takes the word and returns
//! the new one, and the caller makes the pick count by a compare-and-exchange of the word, so that concurrent
//! picks form one sequence.
//!
//! A scheduler is a file here, with its `TRAITS` and its pick, and a row of the table below.

pub mod change;
pub mod destinations;
pub mod dh;
pub mod lblc;
pub mod lblcr;
pub mod locality;
pub mod mh;
pub mod none;
pub mod overload;
pub mod pick;
pub mod roster;
pub mod rr;
pub mod scan;
pub mod sh;
pub mod table;
pub mod traits;
pub mod twos;
pub mod wrr;

pub use destinations::{Candidate, Destinations, OneByOne, Visit, Walk, lighter};
pub use pick::{Pick, PickKey};
pub use table::{BucketTable, Table, TableDest, Turns};
pub use traits::{FLAGS, Traits};

use crate::abi::{DestId, Scheduler, ServiceConfig, Sysctls};
use locality::Locality;

/// Rows in the order of their numbers; a number that is missing, or there twice, does not compile.
const fn by_number<const N: usize>(rows: [(Scheduler, Traits); N]) -> [(Scheduler, Traits); N] {
    let (mut sorted, mut at) = (rows, 0);
    while at < N {
        sorted[rows[at].0 as usize] = rows[at];
        at += 1;
    }
    at = 0;
    while at < N {
        assert!(sorted[at].0 as usize == at);
        at += 1;
    }
    sorted
}

/// Constants with the schedulers' names and numbers, for patterns.
macro_rules! numbers {
    ($($scheduler:ident)+) => {
        $(const $scheduler: u8 = Scheduler::$scheduler as u8;)+
    };
}

/// Makes the table of schedulers and the functions that packets ask. The functions are matches on constants, not look-ups
/// in the table: see "constants and .rodata.cst" in docs/develop/verifier.md.
macro_rules! schedulers {
    (
        ($list:ident, $table:ident, $memory:ident, $config:ident, $key:ident, $state:ident)
        picks { $($scheduler:ident: $traits:expr => $pick:expr;)+ }
        best { $($best:ident: $best_traits:expr => $preference:ty;)+ }
    ) => {
        /// Every scheduler with its traits, in the order of their numbers.
        pub const SCHEDULERS: &[(Scheduler, Traits)] = &by_number([
            $((Scheduler::$scheduler, $traits),)+
            $((Scheduler::$best, $best_traits),)+
        ]);

        /// Picks by whatever scheduler the service has. `state` is its state word.
        #[allow(non_upper_case_globals, reason = "constants with the variants' names, for patterns")]
        #[inline(always)]
        pub fn pick<D: Destinations, T: Table, L: Locality>(
            $list: &D,
            $table: T,
            $memory: &L,
            $config: &ServiceConfig,
            $key: &PickKey,
            $state: u64,
        ) -> Pick {
            numbers!($($scheduler)+ $($best)+);
            match $config.scheduler {
                $($scheduler => $pick,)+
                $($best)|+ => Pick { dest: $list.best($config.scheduler), state: $state },
                _ => Pick { dest: DestId::NONE, state: $state },
            }
        }

        /// What the schedulers of [`scan`] call the best destination of the list, 0 if they admit none.
        #[allow(non_upper_case_globals, reason = "constants with the variants' names, for patterns")]
        #[inline(always)]
        pub fn best<D: Destinations + ?Sized>(list: &D, scheduler: u8) -> DestId {
            numbers!($($best)+);
            match scheduler {
                $($best => scan::preferred::<$preference, D>(list),)+
                _ => DestId::NONE,
            }
        }

        /// Whether a scheduler, by number, draws random numbers.
        #[inline(always)]
        pub const fn is_random(scheduler: u8) -> bool {
            false $(|| const { $traits.random } && scheduler == Scheduler::$scheduler as u8)+
        }

        /// Seconds for which a scheduler, by number, remembers an address without a connection; 0 if it remembers none.
        #[inline(always)]
        pub fn memory(scheduler: u8, sysctls: &Sysctls) -> u32 {
            $(
                if scheduler == Scheduler::$scheduler as u8
                    && let Some(seconds) = const { $traits.memory }
                {
                    return seconds(sysctls);
                }
            )+
            0
        }
    };
}

schedulers! {
    (list, table, memory, config, key, state)
    picks {
        None: none::TRAITS => Pick { dest: DestId::NONE, state };
        Rr: rr::TRAITS => rr::pick(list, state);
        Wrr: wrr::TRAITS => wrr::pick(list, config, state);
        Lblc: lblc::TRAITS => Pick { dest: lblc::pick(list, memory, key), state };
        Lblcr: lblcr::TRAITS => Pick { dest: lblcr::pick(list, memory, key), state };
        Dh: dh::TRAITS => Pick { dest: dh::pick(list, table, key), state };
        Sh: sh::TRAITS => Pick { dest: sh::pick(list, table, config.flags, key), state };
        Mh: mh::TRAITS => Pick { dest: mh::pick(list, table, config.flags, key), state };
        Twos: twos::TRAITS => Pick { dest: twos::pick(list, key.random), state };
    }
    best {
        Lc: scan::LC => scan::Lc;
        Wlc: scan::WLC => scan::Wlc;
        Sed: scan::SED => scan::Sed;
        Nq: scan::NQ => scan::Nq;
        Fo: scan::FO => scan::Fo;
        Ovf: scan::OVF => scan::Ovf;
    }
}
