//! Power of two choices: two destinations are drawn with their weights as odds, and the less loaded one is taken.

use super::{Destinations, Walk, lighter};
use crate::abi::DestId;

/// Sums up the weights of the usable destinations.
struct Sum {
    at: DestId,
    weights: u64,
}

impl Walk for Sum {
    #[inline(always)]
    fn step<D: Destinations + ?Sized>(&mut self, list: &D) -> bool {
        let Some(dest) = list.get(self.at) else { return true };
        if dest.usable() {
            self.weights = self.weights.wrapping_add(dest.weight as u64);
        }
        self.at = dest.next;
        self.at == 0
    }
}

/// Finds what a draw hits: the destination at which the sum of the weights passed reaches it.
struct Draw {
    at: DestId,
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

impl Walk for Draw {
    #[inline(always)]
    fn step<D: Destinations + ?Sized>(&mut self, list: &D) -> bool {
        let Some(dest) = list.get(self.at) else { return true };
        if dest.usable() {
            if self.left <= dest.weight as u64 {
                self.hit = Some(Hit { id: self.at, weight: dest.weight, load: dest.overhead() });
                return true;
            }
            self.left = self.left.wrapping_sub(dest.weight as u64);
        }
        self.at = dest.next;
        self.at == 0
    }
}

/// What `draw` hits. It may be nothing if destinations became unusable since their weights were summed up.
#[inline(always)]
fn hit<D: Destinations + ?Sized>(list: &D, draw: u64) -> Option<Hit> {
    let mut walk = Draw { at: list.head(), left: draw, hit: None };
    list.walk(list.count(), &mut walk);
    walk.hit
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
    let head = list.head();
    if head == 0 {
        return 0;
    }
    let mut sum = Sum { at: head, weights: 0 };
    list.walk(list.count(), &mut sum);
    // From 0 to the sum, both included, as IPVS draws: the first destination has one chance more than its weight.
    let draws = sum.weights.wrapping_add(1);
    let [first, second] = random;
    let Some(first) = hit(list, below(first, draws)) else { return 0 };
    let Some(second) = hit(list, below(second, draws)) else { return first.id };
    if lighter(second.load, second.weight, first.load, first.weight) { second.id } else { first.id }
}
