//! The targets, one row each.

use crate::{netlink, packets, rules, seeds, sync, toa};

/// A target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// What is fuzzed.
    pub meaning: &'static str,
    /// Runs an input, and panics if something does not hold.
    pub run: fn(&[u8]),
    /// Inputs to begin with: recordings of the kernel, and what the project's own files have.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Bytes of an input at most.
    pub longest: usize,
    /// Inputs that `cargo xtask test` runs: some seconds' worth.
    pub quick: u32,
}

/// Every target.
pub const TARGETS: [Target; 8] = [
    Target {
        name: "packets",
        meaning: "packets, edits and time to two directors, one with XDP and TC, one with TC alone",
        run: packets::run,
        seeds: seeds::packets,
        longest: 4096,
        quick: 300,
    },
    Target {
        name: "sync",
        meaning: "messages of connection synchronisation",
        run: sync::message,
        seeds: seeds::messages,
        longest: 1500,
        quick: 50_000,
    },
    Target {
        name: "enter",
        meaning: "connections that such messages tell of, entered into the table",
        run: sync::enter,
        seeds: seeds::none,
        longest: 512,
        quick: 1000,
    },
    Target {
        name: "toa",
        meaning: "the option that tells a real server its client",
        run: toa::run,
        seeds: seeds::none,
        longest: toa_longest(),
        quick: 50_000,
    },
    Target {
        name: "file",
        meaning: "rules files of lvsadm apply",
        run: rules::file,
        seeds: seeds::files,
        longest: 4096,
        quick: 500,
    },
    Target {
        name: "restore",
        meaning: "tables for ipvsadm-restore, saved and restored again",
        run: rules::restore,
        seeds: seeds::commands,
        longest: 4096,
        quick: 500,
    },
    Target {
        name: "json",
        meaning: "JSON of such tables",
        run: rules::json,
        seeds: seeds::commands,
        longest: 4096,
        quick: 500,
    },
    Target {
        name: "netlink",
        meaning: "answers of the kernel's netlink",
        run: netlink::run,
        seeds: seeds::none,
        longest: 1024,
        quick: 20_000,
    },
];

/// The options of a TCP header, and some bytes beyond.
const fn toa_longest() -> usize {
    lvs_common::toa::OPTIONS + 8
}

/// The target of that name.
pub fn named(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
