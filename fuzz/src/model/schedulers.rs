//! Which destination a scheduler picks.

use std::net::IpAddr;

use super::rules::{Destination, Memory, Name};

/// What may be picked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pick {
    /// This one, or none.
    Exactly(Option<usize>),
    /// One of these; none only if so it says.
    OneOf(Vec<usize>, bool),
}

/// A service's list with its destinations, the newest first.
pub type List<'a> = [(usize, &'a Destination)];

impl Name {
    /// Picks for a client's packet to an address.
    pub fn pick(self, list: &List<'_>, memory: &mut Memory, client: IpAddr, to: IpAddr) -> Pick {
        let all =
            || -> Vec<usize> { list.iter().filter(|(_, dest)| dest.is_usable()).map(|(place, _)| *place).collect() };
        // More than a count, what counts for it: connections that are active weigh 256 times as much.
        let load = |dest: &Destination| i64::from(dest.active) * 256 + i64::from(dest.inactive);
        let next = |dest: &Destination| i64::from(dest.active) + 1;
        Pick::Exactly(match self {
            Name::Rr => rr(list, memory),
            Name::Wrr => wrr(list, memory),
            Name::Lc => least(list, |dest| (load(dest), 1)),
            Name::Wlc => least(list, |dest| (load(dest), dest.weight.into())),
            Name::Sed => least(list, |dest| (next(dest), dest.weight.into())),
            Name::Nq => {
                let idle = list.iter().find(|(_, dest)| dest.is_usable() && dest.active == 0);
                idle.map(|(place, _)| *place).or_else(|| least(list, |dest| (next(dest), dest.weight.into())))
            }
            Name::Fo => heaviest(list, |_| true),
            Name::Ovf => heaviest(list, |dest| dest.active <= dest.weight),
            Name::Dh => bucket(list, |_| 1, fold(to)),
            Name::Sh => bucket(list, |dest| dest.weight.max(1), fold(client)),
            // A slot's destination may be unusable.
            Name::Mh => return Pick::OneOf(all(), true),
            // What they remember is used though its destination is overloaded.
            Name::Lblc | Name::Lblcr => {
                let weighty = list.iter().filter(|(_, dest)| dest.weight > 0);
                return Pick::OneOf(weighty.map(|(place, _)| *place).collect(), all().is_empty());
            }
            Name::Twos => {
                let all = all();
                let is_none = all.is_empty();
                return Pick::OneOf(all, is_none);
            }
        })
    }

    /// Notes that a service's list has changed; `removed` is a destination that was removed, and the one before it.
    pub fn note(self, list: &List<'_>, memory: &mut Memory, removed: Option<(usize, Option<usize>)>) {
        match self {
            Name::Rr => {
                if let Some((place, before)) = removed
                    && memory.last == Some(place)
                {
                    memory.last = before;
                }
            }
            Name::Wrr => {
                let (step, most) = weights(list);
                memory.last = None;
                if memory.current > most || memory.current == 0 {
                    memory.current = most;
                } else if step > 1 {
                    memory.current = memory.current / step * step + 1;
                }
            }
            _ => {}
        }
    }
}

/// Where in the list the search after the last pick begins.
fn after(list: &List<'_>, last: Option<usize>) -> usize {
    last.and_then(|last| list.iter().position(|(place, _)| *place == last)).map_or(0, |at| at + 1)
}

fn rr(list: &List<'_>, memory: &mut Memory) -> Option<usize> {
    let begin = after(list, memory.last);
    let found = (0..list.len()).map(|n| list[(begin + n) % list.len()]).find(|(_, dest)| dest.is_usable());
    memory.last = found.map(|(place, _)| place).or(memory.last);
    found.map(|(place, _)| place)
}

/// The step by which the weight that is wanted falls, and where it begins: both from the greatest common divisor of the weights.
fn weights(list: &List<'_>) -> (i64, i64) {
    fn divisor(a: i64, b: i64) -> i64 {
        if b == 0 { a } else { divisor(b, a % b) }
    }
    let weights = || list.iter().map(|(_, dest)| i64::from(dest.weight));
    let step = weights().fold(0, divisor).max(1);
    (step, weights().max().unwrap_or(0) - (step - 1))
}

/// Rounds with falling weight: a destination takes part in as many as its weight has steps.
fn wrr(list: &List<'_>, memory: &mut Memory) -> Option<usize> {
    let (step, most) = weights(list);
    if most <= 0 {
        return None;
    }
    let (first, began) = (after(list, memory.last), memory.last.is_some());
    // Whether the weight that is wanted has been at its least, and at its most again after that; where the search ends then.
    let (mut at, mut was_least, mut is_again, mut end) = (first, false, false, None);
    loop {
        while at < list.len() {
            let (place, dest) = list[at];
            if !dest.is_overloaded && i64::from(dest.weight) >= memory.current {
                memory.last = Some(place);
                return memory.last;
            }
            at += 1;
            if end == Some(at) {
                return None;
            }
        }
        memory.current -= step;
        if memory.current <= 0 {
            memory.current = most;
            if was_least || !began {
                return None;
            }
            is_again = true;
        }
        was_least = memory.current <= step;
        if was_least && is_again && began {
            end = Some(first);
        }
        at = 0;
    }
}

/// The destination with the least load for its weight; of equals the newest.
fn least(list: &List<'_>, of: impl Fn(&Destination) -> (i64, i64)) -> Option<usize> {
    let mut best: Option<(usize, (i64, i64))> = None;
    for (place, dest) in list.iter().filter(|(_, dest)| dest.is_usable()) {
        let (load, weight) = of(dest);
        if best.is_none_or(|(_, (least, its))| least * weight > load * its) {
            best = Some((*place, (load, weight)));
        }
    }
    best.map(|(place, _)| place)
}

/// The destination with the greatest weight; of equals the newest.
fn heaviest(list: &List<'_>, has_room: impl Fn(&Destination) -> bool) -> Option<usize> {
    let mut best: Option<(usize, u32)> = None;
    for (place, dest) in list.iter().filter(|(_, dest)| dest.is_usable() && has_room(dest)) {
        if best.is_none_or(|(_, weight)| dest.weight > weight) {
            best = Some((*place, dest.weight));
        }
    }
    best.map(|(place, _)| place)
}

/// The destination of a bucket of 256: each has so many in a row, and the list is gone through as often as it takes.
fn bucket(list: &List<'_>, share: impl Fn(&Destination) -> u32, key: u32) -> Option<usize> {
    let number = (key.wrapping_mul(0x61C8_8647) >> 24) as usize;
    let once = || list.iter().flat_map(|(place, dest)| (0..share(dest)).map(move |_| (*place, *dest)));
    let length = once().take(256).count();
    let (place, dest) = if length == 0 { None } else { once().nth(number % length) }?;
    dest.is_usable().then_some(place)
}

/// An address as 32 bits.
fn fold(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => address.to_bits(),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            (0..4).fold(0, |folded, word| folded ^ (bits >> (32 * word)) as u32)
        }
    }
}
