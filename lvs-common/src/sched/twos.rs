//! Power of two choices: two destinations are drawn with their weights as odds, and the less loaded one is taken.

use super::destinations::{Candidate, Destinations, Visit, lighter};
use super::traits::Traits;
use crate::abi::DestId;

/// What this scheduler is.
pub const TRAITS: Traits = Traits { random: true, ..Traits::scanning("twos") };

/// Sums up the weights of the usable destinations.
struct Sum {
    weights: u64,
}

impl Visit for Sum {
    #[inline(always)]
    fn visit(&mut self, dest: &Candidate) -> bool {
        if dest.usable() {
            self.weights = self.weights.wrapping_add(dest.weight as u64);
        }
        false
    }
}

/// Finds what a draw hits: the destination at which the sum of the weights passed reaches it.
struct Draw {
    /// What is left of the draw.
    left: u64,
    hit: Option<Hit>,
}

#[derive(Clone, Copy)]
struct Hit {
    id: DestId,
    weight: u32,
    load: u64,
}

impl Visit for Draw {
    #[inline(always)]
    fn visit(&mut self, dest: &Candidate) -> bool {
        if !dest.usable() {
            return false;
        }
        let weight = dest.weight as u64;
        if self.left <= weight {
            self.hit = Some(Hit { id: dest.id, weight: dest.weight, load: dest.overhead() });
            return true;
        }
        self.left = self.left.wrapping_sub(weight);
        false
    }
}

/// What `draw` hits. It may be nothing if destinations became unusable since their weights were summed up.
#[inline(always)]
fn hit<D: Destinations + ?Sized>(list: &D, draw: u64) -> Option<Hit> {
    list.show(Draw { left: draw, hit: None }).hit
}

/// A uniform number below `bound` from a uniform 32-bit one.
#[inline(always)]
const fn below(random: u32, bound: u64) -> u64 {
    let random = random as u64;
    random.wrapping_mul(bound >> 32).wrapping_add(random.wrapping_mul(bound & 0xffff_ffff) >> 32)
}

/// The less loaded of two destinations drawn; the first if they are equal.
#[inline(always)]
pub fn pick<D: Destinations + ?Sized>(list: &D, random: [u32; 2]) -> DestId {
    // From 0 to the sum, both included, as IPVS draws: the first destination has one chance more than its weight.
    let draws = list.show(Sum { weights: 0 }).weights.wrapping_add(1);
    let [first, second] = random;
    let Some(first) = hit(list, below(first, draws)) else { return DestId::NONE };
    let Some(second) = hit(list, below(second, draws)) else { return first.id };
    if lighter(second.load, second.weight, first.load, first.weight) { second.id } else { first.id }
}
