//! Fuzz targets: everything that reads bytes from outside.
//!
//! `cargo xtask fuzz` searches by coverage (libFuzzer), or at random where it is to be quick; `cargo xtask test` runs a few thousand
//! inputs of each target, the same ones each time, and every input that ever found something (`corpus/`).

pub mod cursor;
pub mod model;
pub mod netlink;
pub mod packets;
pub mod rules;
pub mod seeds;
pub mod sync;
pub mod targets;
pub mod toa;

use targets::Target;

/// An input of a target by number: random bytes, or one of the seeds with some changed.
pub fn input(target: &Target, seeds: &[Vec<u8>], number: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(number);
    let mut input = match seeds.len() {
        0 => Vec::new(),
        count if random.bool() => seeds[random.usize(..count)].clone(),
        _ => Vec::new(),
    };
    if input.is_empty() {
        input.resize(random.usize(1..target.longest), 0);
        random.fill(&mut input);
        return input;
    }
    for _ in 0..random.usize(1..8) {
        let at = random.usize(..input.len());
        match random.u8(..5) {
            0 => input[at] = random.u8(..),
            1 => input[at] ^= 1 << random.u8(..8),
            2 => drop(input.splice(at..at, [random.u8(..)])),
            3 if input.len() > 1 => drop(input.remove(at)),
            _ => input.truncate(at.max(1)),
        }
    }
    input
}
