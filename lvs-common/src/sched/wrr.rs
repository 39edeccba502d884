//! Weighted round robin: IPVS's sequence exactly, in at most two passes over the list.
//!
//! The list is walked round and round at a threshold that starts at the greatest weight and falls by the weights' greatest
//! common divisor at each end of the list, down to 1 and then back to the top; a destination is picked when its weight
//! reaches the threshold. Taken literally, a heavy destination that is overloaded makes thousands of passes fail
//! before a light one's turn comes. But when a pass fails, what follows is known: the threshold falls just far enough for
//! the heaviest usable destination, and since all weights are multiples of the divisor, no lighter one can reach
//! it. So one pass that remembers the first of the heaviest stands for all of them.

use super::change::Change;
use super::destinations::{Destinations, Walk};
use super::pick::Pick;
use super::traits::Traits;
use crate::abi::{DestId, ServiceConfig};

/// What this scheduler is.
pub const TRAITS: Traits = Traits { weights: true, state: Some(state), ..Traits::new("wrr") };

/// Where the sequence stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The destination picked last; 0 is the place before the head of the list.
    pub last: DestId,
    /// The threshold.
    pub threshold: u32,
}

impl State {
    /// From the state word.
    #[inline(always)]
    pub const fn unpack(word: u64) -> Self {
        State { last: DestId::new(word as u32), threshold: (word >> 32) as u32 }
    }

    /// As the state word.
    #[inline(always)]
    pub const fn pack(self) -> u64 {
        (self.threshold as u64) << 32 | self.last.get() as u64
    }
}

/// By how much the threshold falls, never 0.
#[inline(always)]
const fn fall(config: &ServiceConfig) -> u32 {
    if config.weight_gcd == 0 { 1 } else { config.weight_gcd }
}

/// The highest threshold: the lowest one that only the greatest weight reaches. 0 without a weight above 0.
#[inline(always)]
pub const fn top(config: &ServiceConfig) -> u32 {
    config.weight_max.saturating_sub(fall(config).wrapping_sub(1))
}

/// `from`, fallen step by step until it is no more than `limit`, which is at least 1 as `from` is.
#[inline(always)]
const fn fallen(from: u32, limit: u32, fall: u32) -> u32 {
    if from <= limit || fall == 0 {
        return from;
    }
    let short = from.wrapping_sub(limit).wrapping_sub(1) / fall;
    from.wrapping_sub(short.wrapping_add(1).wrapping_mul(fall))
}

/// In this order those that begin as 0 are apart: the compiler would have a function write four in a row.
#[repr(C)]
struct Rounds {
    at: DestId,
    found: DestId,
    threshold: u32,
    /// The first of the heaviest usable destinations of the whole pass, and its weight.
    heaviest: DestId,
    weight: u32,
    /// Threshold of the first whole pass.
    next: u32,
    /// In the whole pass, no longer in the rest of the one that the last pick left.
    whole: bool,
}

impl Walk for Rounds {
    #[inline(always)]
    fn step<D: Destinations + ?Sized>(&mut self, list: &D) -> bool {
        if self.at.is_none() {
            if self.whole {
                return true;
            }
            self.whole = true;
            self.threshold = self.next;
            self.at = list.head();
        }
        let Some(dest) = list.get(self.at) else { return true };
        if dest.usable() {
            if dest.weight >= self.threshold {
                self.found = self.at;
                return true;
            }
            if self.whole && dest.weight > self.weight {
                self.weight = dest.weight;
                self.heaviest = self.at;
            }
        }
        self.at = dest.next;
        false
    }
}

/// The next destination of the sequence. Overloaded ones are passed over, and their turns are lost.
#[inline(always)]
pub fn pick<D: Destinations + ?Sized>(list: &D, config: &ServiceConfig, state: u64) -> Pick {
    let top = top(config);
    let head = list.head();
    if top == 0 || head.is_none() {
        return Pick { dest: DestId::NONE, state };
    }
    let fall = fall(config);
    let State { last, threshold } = State::unpack(state);
    let next = if threshold > fall { threshold.wrapping_sub(fall) } else { top };
    let mut rounds =
        Rounds { at: head, threshold, next, whole: false, found: DestId::NONE, heaviest: DestId::NONE, weight: 0 };
    if last.is_some() {
        rounds.at = list.get(last).map_or(head, |dest| dest.next);
    }
    let rounds = list.walk(list.count().wrapping_mul(2).wrapping_add(1), rounds);

    let new = if rounds.found.is_some() {
        State { last: rounds.found, threshold: rounds.threshold }
    } else if rounds.heaviest.is_some() {
        State { last: rounds.heaviest, threshold: fallen(next, rounds.weight, fall) }
    } else if threshold <= fall && last.is_some() {
        // What was left of the lowest pass is tried first, then all passes down to the lowest again, up to where it began.
        return Pick { dest: DestId::NONE, state: State { last, threshold: fallen(top, fall, fall) }.pack() };
    } else {
        return Pick { dest: DestId::NONE, state: State { last: DestId::NONE, threshold: top }.pack() };
    };
    Pick { dest: new.last, state: new.pack() }
}

/// The state word after a change.
const fn state(config: &ServiceConfig, word: u64, change: Change) -> u64 {
    match change {
        Change::Attached => attached(config).pack(),
        _ => changed(config, State::unpack(word)).pack(),
    }
}

/// The state when the scheduler is attached to a service.
pub const fn attached(config: &ServiceConfig) -> State {
    State { last: DestId::NONE, threshold: top(config) }
}

/// The state after any change of destinations or weights; `config` is the new one. The sequence starts at the head again,
/// at about the threshold that was reached.
pub const fn changed(config: &ServiceConfig, state: State) -> State {
    let top = top(config);
    let fall = fall(config);
    let threshold = if state.threshold > top || state.threshold == 0 {
        top
    } else if fall > 1 {
        (state.threshold / fall).wrapping_mul(fall).wrapping_add(1)
    } else {
        state.threshold
    };
    State { last: DestId::NONE, threshold }
}
