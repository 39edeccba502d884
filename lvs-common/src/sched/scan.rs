//! The schedulers that look at every destination and take the best: lc, wlc, sed, nq, fo, ovf.

use core::marker::PhantomData;

use super::destinations::{Candidate, Destinations, Visit, lighter};
use super::traits::Traits;
use crate::abi::DestId;

/// What a scheduler calls the best destination.
pub trait Preference {
    /// Whether the destination may be picked.
    #[inline(always)]
    fn admits(dest: &Candidate) -> bool {
        dest.usable()
    }

    /// Whether the destination wins without a look at the rest of the list.
    #[inline(always)]
    fn decides(_dest: &Candidate) -> bool {
        false
    }

    /// The destination's load, in whatever the scheduler counts.
    fn load(dest: &Candidate) -> u64;

    /// Whether a destination with this load and weight is better than the best so far; equals are not. Whatever may be
    /// picked is better than nothing, which has weight 0 and the greatest load: in [`lighter`]'s products too, as that
    /// load times a weight, wrapping, is not 0.
    fn beats(load: u64, weight: u32, best: &Best) -> bool;
}

/// The best destination so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Best {
    /// Its number, 0 while there is none.
    pub id: DestId,
    /// Its weight.
    pub weight: u32,
    /// Its load.
    pub load: u64,
}

struct Scan<P> {
    best: Best,
    preference: PhantomData<P>,
}

impl<P: Preference> Visit for Scan<P> {
    #[inline(always)]
    fn visit(&mut self, dest: &Candidate) -> bool {
        if !P::admits(dest) {
            return false;
        }
        let load = P::load(dest);
        let decides = P::decides(dest);
        if decides || P::beats(load, dest.weight, &self.best) {
            self.best = Best { id: dest.id, weight: dest.weight, load };
        }
        decides
    }
}

/// What lc is.
pub const LC: Traits = Traits::scanning("lc");
/// What wlc is.
pub const WLC: Traits = Traits::scanning("wlc");
/// What sed is.
pub const SED: Traits = Traits::scanning("sed");
/// What nq is.
pub const NQ: Traits = Traits::scanning("nq");
/// What fo is.
pub const FO: Traits = Traits::scanning("fo");
/// What ovf is.
pub const OVF: Traits = Traits::scanning("ovf");

/// What a preference calls the best destination of the list, 0 if it admits none.
#[inline(always)]
pub fn preferred<P: Preference, D: Destinations + ?Sized>(list: &D) -> DestId {
    let mut scan = Scan::<P> { best: Best::default(), preference: PhantomData };
    // Not as a part of the whole: that would be a constant, which programs are not to have.
    scan.best.load = u64::MAX;
    list.show(scan).best.id
}

/// Least connections: the smallest overhead, whatever the weights.
pub struct Lc;

impl Preference for Lc {
    #[inline(always)]
    fn load(dest: &Candidate) -> u64 {
        dest.overhead()
    }

    #[inline(always)]
    fn beats(load: u64, _weight: u32, best: &Best) -> bool {
        load < best.load
    }
}

/// Weighted least connections: the smallest overhead for its weight.
pub struct Wlc;

impl Preference for Wlc {
    #[inline(always)]
    fn load(dest: &Candidate) -> u64 {
        dest.overhead()
    }

    #[inline(always)]
    fn beats(load: u64, weight: u32, best: &Best) -> bool {
        lighter(load, weight, best.load, best.weight)
    }
}

/// Shortest expected delay: as wlc, counting active connections and the one to come.
pub struct Sed;

impl Preference for Sed {
    #[inline(always)]
    fn load(dest: &Candidate) -> u64 {
        (dest.active as u64).wrapping_add(1)
    }

    #[inline(always)]
    fn beats(load: u64, weight: u32, best: &Best) -> bool {
        lighter(load, weight, best.load, best.weight)
    }
}

/// Never queue: the first destination without active connections, else as sed.
pub struct Nq;

impl Preference for Nq {
    #[inline(always)]
    fn decides(dest: &Candidate) -> bool {
        dest.active == 0
    }

    #[inline(always)]
    fn load(dest: &Candidate) -> u64 {
        Sed::load(dest)
    }

    #[inline(always)]
    fn beats(load: u64, weight: u32, best: &Best) -> bool {
        Sed::beats(load, weight, best)
    }
}

/// Weighted fail-over: the greatest weight.
pub struct Fo;

impl Preference for Fo {
    #[inline(always)]
    fn load(_dest: &Candidate) -> u64 {
        0
    }

    #[inline(always)]
    fn beats(_load: u64, weight: u32, best: &Best) -> bool {
        weight > best.weight
    }
}

/// Weighted overflow: the greatest weight that active connections do not exceed.
pub struct Ovf;

impl Preference for Ovf {
    #[inline(always)]
    fn admits(dest: &Candidate) -> bool {
        dest.usable() && dest.active <= dest.weight
    }

    #[inline(always)]
    fn load(dest: &Candidate) -> u64 {
        Fo::load(dest)
    }

    #[inline(always)]
    fn beats(load: u64, weight: u32, best: &Best) -> bool {
        Fo::beats(load, weight, best)
    }
}
