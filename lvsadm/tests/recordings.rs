//! Every recorded command of the real ipvsadm 1.31 on a Linux 6.1 director, byte for byte.

mod common;

use std::collections::BTreeMap;
use std::fmt::Write;

use common::ipvsadm;
use lvsadm::director::MemoryDirector;
use lvsadm::session::Outcome;
use serde::Deserialize;

/// The recordings.
const RECORDINGS: &str = include_str!("../../tests/golden/cli.jsonl");

/// One recorded command.
#[derive(Deserialize)]
struct Recorded {
    seq: String,
    i: usize,
    argv: Vec<String>,
    #[serde(default)]
    stdin: String,
    rc: u8,
    stdout: String,
    stderr: String,
}

/// The sequence about connection synchronisation, which this build has not: only its errors of grammar are repeated.
const SYNCHRONISATION: &str = "daemon";

/// Commands whose result differs, and why; each is followed by what makes the table the recorded one again.
const EXPLAINED: [(&str, usize, &str, &[&str]); 1] = [(
    "schedulers",
    14,
    "lvsadm has the scheduler twos, the recorded kernel had not",
    &["ipvsadm", "-D", "-t", "192.0.2.20:200"],
)];

/// What a listing shows as a set of services, for `--nosort`: the kernel's order depends on a pointer.
fn as_set(listing: &str) -> Vec<String> {
    let (mut head, mut services) = (Vec::new(), Vec::<String>::new());
    for line in listing.lines() {
        match services.last_mut() {
            Some(service) if line.starts_with("  ->") => write!(service, "\n{line}").unwrap(),
            _ if ["TCP", "UDP", "SCTP", "FWM"].iter().any(|protocol| line.starts_with(protocol)) => {
                services.push(line.to_owned());
            }
            _ => head.push(line.to_owned()),
        }
    }
    services.sort();
    head.extend(services);
    head
}

/// Whether the recorded ipvsadm complained without asking the kernel.
fn is_grammar_error(recorded: &Recorded) -> bool {
    recorded.rc == 2 || recorded.stderr.starts_with("Try") || recorded.stderr.ends_with("missing argument\n")
}

fn equal(recorded: &Recorded, outcome: &Outcome) -> bool {
    let unsorted = recorded.argv.iter().any(|argument| argument == "--nosort");
    let stdout =
        if unsorted { as_set(&recorded.stdout) == as_set(&outcome.stdout) } else { recorded.stdout == outcome.stdout };
    stdout && recorded.rc == outcome.status && recorded.stderr == outcome.stderr
}

/// The recorded vector as a vector for this program, or `None` for a program that is not ours. The one shell command
/// stands for the one command in it.
fn command(recorded: &Recorded) -> Option<Vec<&str>> {
    let argv: Vec<&str> = recorded.argv.iter().map(String::as_str).collect();
    match argv[..] {
        ["bash", "-c", "ipvsadm -C; true"] => Some(vec!["ipvsadm", "-C"]),
        [program, ..] if program.starts_with("ipvsadm") => Some(argv),
        _ => None,
    }
}

#[test]
fn every_recorded_command_is_repeated() {
    let mut directors = BTreeMap::<String, MemoryDirector>::new();
    let (mut same, mut explained, mut differences) = (0, 0, String::new());
    for line in RECORDINGS.lines() {
        let recorded: Recorded = serde_json::from_str(line).unwrap();
        if recorded.seq == SYNCHRONISATION && !is_grammar_error(&recorded) {
            continue;
        }
        let argv = command(&recorded).unwrap_or_else(|| panic!("{}: unknown program", recorded.seq));
        let director = directors.entry(recorded.seq.clone()).or_default();
        let outcome = ipvsadm(director, &argv, &recorded.stdin);
        match EXPLAINED.iter().find(|entry| (entry.0, entry.1) == (recorded.seq.as_str(), recorded.i)) {
            Some(entry) => {
                assert_eq!(ipvsadm(director, entry.3, "").status, 0, "{}", entry.2);
                explained += 1;
            }
            None if equal(&recorded, &outcome) => same += 1,
            None => {
                let Recorded { seq, i, rc, stdout, stderr, .. } = &recorded;
                writeln!(differences, "{seq} {i}: {argv:?} {:?}", recorded.stdin).unwrap();
                writeln!(differences, "  recorded {rc} {stderr:?}\n{stdout}").unwrap();
                writeln!(differences, "  answered {} {:?}\n{}", outcome.status, outcome.stderr, outcome.stdout)
                    .unwrap();
            }
        }
    }
    assert!(differences.is_empty(), "{differences}");
    assert_eq!((same, explained), (886, 1));
}
