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

/// A draw and what it hits: the destination at which the weights passed reach `draw`.
#[derive(Clone, Copy, Default)]
struct Choice {
    draw: u64,
    id: DestId,
    weight: u32,
    load: u64,
}

/// Finds what both draws hit.
struct Draw {
    at: DestId,
    passed: u64,
    first: Choice,
    second: Choice,
}

impl Walk for Draw {
    #[inline(always)]
    fn step<D: Destinations + ?Sized>(&mut self, list: &D) -> bool {
        let Some(dest) = list.get(self.at) else { return true };
        if dest.usable() {
            self.passed = self.passed.wrapping_add(dest.weight as u64);
            if self.first.id == 0 && self.passed >= self.first.draw {
                self.first = Choice { id: self.at, weight: dest.weight, load: dest.overhead(), ..self.first };
            }
            if self.second.id == 0 && self.passed >= self.second.draw {
                self.second = Choice { id: self.at, weight: dest.weight, load: dest.overhead(), ..self.second };
            }
        }
        self.at = dest.next;
        self.at == 0 || (self.first.id != 0 && self.second.id != 0)
    }
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
    let [first, second] = random.map(|random| Choice { draw: below(random, draws), ..Choice::default() });
    let mut draw = Draw { at: head, passed: 0, first, second };
    list.walk(list.count(), &mut draw);
    let Draw { first, second, .. } = draw;
    // Either may have hit nothing if destinations became unusable between the walks.
    if first.id == 0 || (second.id != 0 && lighter(second.load, second.weight, first.load, first.weight)) {
        second.id
    } else {
        first.id
    }
}
