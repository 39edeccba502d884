//! Every recorded command of the real ipvsadm, on a director in memory.

mod common;
#[path = "common/recorded.rs"]
mod recorded;

use std::collections::BTreeMap;

use common::ipvsadm;
use lvs_director::director::{MemoryDirector, rules};
use lvsadm::render;
use recorded::{Answer, repeat};

/// How many commands are recorded that can be the same.
const SAME: usize = 938;

#[test]
fn every_recorded_command_is_repeated() {
    let mut directors = BTreeMap::<String, MemoryDirector>::new();
    let same = repeat(|sequence, argv, stdin, _| {
        let outcome = ipvsadm(directors.entry(sequence.to_owned()).or_default(), argv, stdin);
        Answer { status: outcome.status, stdout: outcome.stdout, stderr: outcome.stderr }
    });
    assert_eq!(same, SAME);
}

/// By lvsadm's own name the sentences are the same, and so is what becomes of the table.
#[test]
fn a_command_that_is_refused_says_why_in_one_line_and_changes_nothing() {
    let everything = |director: &MemoryDirector| render::full(&[], &rules(director).unwrap());
    let (mut directors, mut refused) = (BTreeMap::<String, MemoryDirector>::new(), 0);
    repeat(|sequence, argv, stdin, _| {
        let director = directors.entry(sequence.to_owned()).or_default();
        if argv[0] == "ipvsadm" && stdin.is_empty() {
            let mut copy = director.clone();
            let own: Vec<&str> = ["lvsadm"].into_iter().chain(argv[1..].iter().copied()).collect();
            let outcome = ipvsadm(&mut copy, &own, "");
            if outcome.status != 0 {
                assert_eq!(everything(&copy), everything(director), "{own:?}");
                assert_eq!(outcome.stderr.trim_end().lines().count(), 1, "{own:?}: {}", outcome.stderr);
                assert_eq!(outcome.stdout, "", "{own:?}");
                refused += 1;
            }
        }
        let outcome = ipvsadm(director, argv, stdin);
        Answer { status: outcome.status, stdout: outcome.stdout, stderr: outcome.stderr }
    });
    assert!(refused > 250, "{refused}");
}
