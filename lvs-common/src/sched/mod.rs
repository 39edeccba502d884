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

pub mod change;
pub mod dh;
pub mod lblc;
pub mod lblcr;
pub mod locality;
pub mod mh;
pub mod overload;
pub mod roster;
pub mod rr;
pub mod scan;
pub mod sh;
pub mod twos;
pub mod wrr;

use crate::abi::{Address, DestId, Scheduler, ServiceConfig};
use scan::{FO, LC, NQ, OVF, SED, WLC};

/// What a scheduler sees of a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    /// Its number, never 0.
    pub id: DestId,
    /// Weight, 0 for one that gets no new connections.
    pub weight: u32,
    /// Active connections.
    pub active: u32,
    /// Inactive connections.
    pub inactive: u32,
    /// Connection thresholds keep new connections away.
    pub overloaded: bool,
    /// The next older destination of the list, 0 at the end.
    pub next: DestId,
}

impl Candidate {
    /// Whether new connections may go there.
    #[inline(always)]
    pub const fn usable(&self) -> bool {
        self.weight > 0 && !self.overloaded
    }

    /// Load as lc, wlc, lblc, lblcr and twos count it: an active connection weighs as much as 256 inactive ones.
    #[inline(always)]
    pub const fn overhead(&self) -> u64 {
        ((self.active as u64) << 8).wrapping_add(self.inactive as u64)
    }
}

/// Whether `load` over `weight` is less than `best_load` over `best_weight`, without dividing. Exact while loads are
/// below 2^33, which is 33 million active connections on one destination.
#[inline(always)]
pub const fn lighter(load: u64, weight: u32, best_load: u64, best_weight: u32) -> bool {
    best_load.wrapping_mul(weight as u64) > load.wrapping_mul(best_weight as u64)
}

/// The destinations of a service.
pub trait Destinations {
    /// The newest one, 0 if there is none.
    fn head(&self) -> DestId;

    /// How many there are.
    fn count(&self) -> u32;

    /// A destination of the list, by a number that the list itself or a table built from it gave.
    fn get(&self, id: DestId) -> Option<Candidate>;

    /// A destination by a number that was remembered across changes of the list: `None` if it is no longer configured
    /// or belongs to another service.
    fn recall(&self, id: DestId) -> Option<Candidate>;

    /// Calls [`Walk::step`] until it returns `true`, at most `steps` times; what has become of `walk`.
    fn walk<W: Walk>(&self, steps: u32, walk: W) -> W;

    /// Shows the destinations to `visit` in the order of the list, until it returns `true`; what has become of it. Those
    /// of weight 0 may be left out, and [`Candidate::next`] may be 0.
    #[inline(always)]
    fn show<V: Visit>(&self, visit: V) -> V {
        OneByOne::show(self, visit)
    }

    /// What [`scan::best`] finds. The data plane has it in a function that the BPF verifier follows once, for all that call it.
    #[inline(always)]
    fn best(&self, scheduler: u8) -> DestId {
        scan::best(self, scheduler)
    }

    /// What [`lblc::has_idle`] finds; likewise.
    #[inline(always)]
    fn has_idle(&self) -> bool {
        lblc::has_idle(self)
    }
}

/// A look at every destination of a list.
pub trait Visit {
    /// Looks at one; `true` ends it.
    fn visit(&mut self, dest: &Candidate) -> bool;
}

/// A look at every destination as a walk along the list.
pub struct OneByOne<V> {
    at: DestId,
    visit: V,
}

impl<V: Visit> OneByOne<V> {
    /// What has become of `visit` when it was shown the destinations.
    #[inline(always)]
    pub fn show<D: Destinations + ?Sized>(list: &D, visit: V) -> V {
        let walk = OneByOne { at: list.head(), visit };
        if walk.at.is_none() { walk.visit } else { list.walk(list.count(), walk).visit }
    }
}

impl<V: Visit> Walk for OneByOne<V> {
    #[inline(always)]
    fn step<D: Destinations + ?Sized>(&mut self, list: &D) -> bool {
        let Some(dest) = list.get(self.at) else { return true };
        self.at = dest.next;
        self.visit.visit(&dest) || self.at.is_none()
    }
}

/// One bounded loop of a scheduler.
pub trait Walk {
    /// One turn of the loop; `true` ends it.
    fn step<D: Destinations + ?Sized>(&mut self, list: &D) -> bool;
}

/// A table of a hashing scheduler, built when the list changes ([`dh::build`], [`sh::build`], [`mh::build`]).
pub trait Table: Copy {
    /// The destination in slot `index`, 0 if there is none.
    fn slot(&self, index: u32) -> DestId;
}

impl Table for &[DestId] {
    #[inline(always)]
    fn slot(&self, index: u32) -> DestId {
        self.get(index as usize).copied().unwrap_or(DestId::NONE)
    }
}

/// What tells one new connection from another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PickKey {
    /// Source address of its first packet.
    pub client: Address,
    /// Destination address of its first packet.
    pub virt: Address,
    /// Source port, network order.
    pub client_port: u16,
    /// Uniformly distributed numbers (twos).
    pub random: [u32; 2],
    /// The time (lblc, lblcr), in the unit of [`locality::Locality::lifetime`].
    pub now: u64,
}

/// What a pick comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pick {
    /// The destination, 0 if none can take the connection.
    pub dest: DestId,
    /// The service's state word afterwards, also when there was no destination.
    pub state: u64,
}

/// What tables the hashing schedulers are built from: a destination, in the order of the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableDest {
    /// Its number.
    pub id: DestId,
    /// Weight now (sh).
    pub weight: u32,
    /// The last weight that was not 0 (mh).
    pub last_weight: u32,
    /// Address of the real server (mh).
    pub address: Address,
    /// Port of the real server, network order (mh).
    pub port: u16,
}

/// The upper `bits` bits of a multiplicative hash: dh, sh and the kernel's lblc tables use it.
#[inline(always)]
const fn bucket(value: u32, bits: u32) -> u32 {
    value.wrapping_mul(0x61c8_8647) >> (32u32.wrapping_sub(bits) & 31)
}

/// `id` if it is a usable destination of the list, else 0. Written as early returns: LLVM joins the conditions of a match
/// guard, and the verifier then sees a missing destination's fields being read.
#[inline(always)]
fn usable<D: Destinations + ?Sized>(list: &D, id: DestId) -> DestId {
    if id.is_none() {
        return id;
    }
    let Some(dest) = list.get(id) else { return DestId::NONE };
    if dest.usable() { id } else { DestId::NONE }
}

/// Picks by whatever scheduler the service has. `state` is its state word.
#[inline(always)]
pub fn pick<D: Destinations, T: Table, L: locality::Locality>(
    list: &D,
    table: T,
    locality: &L,
    config: &ServiceConfig,
    key: &PickKey,
    state: u64,
) -> Pick {
    const RR: u8 = Scheduler::Rr as u8;
    const WRR: u8 = Scheduler::Wrr as u8;
    const LBLC: u8 = Scheduler::Lblc as u8;
    const LBLCR: u8 = Scheduler::Lblcr as u8;
    const DH: u8 = Scheduler::Dh as u8;
    const SH: u8 = Scheduler::Sh as u8;
    const MH: u8 = Scheduler::Mh as u8;
    const TWOS: u8 = Scheduler::Twos as u8;
    let dest = match config.scheduler {
        RR => return rr::pick(list, state),
        WRR => return wrr::pick(list, config, state),
        LC | WLC | SED | NQ | FO | OVF => list.best(config.scheduler),
        TWOS => twos::pick(list, key.random),
        DH => dh::pick(list, table, key),
        SH => sh::pick(list, table, config.flags, key),
        MH => mh::pick(list, table, config.flags, key),
        LBLC => lblc::pick(list, locality, key),
        LBLCR => lblcr::pick(list, locality, key),
        _ => DestId::NONE,
    };
    Pick { dest, state }
}
