//! Every recorded command of the real ipvsadm 1.31 on a Linux 6.1 director, to be repeated byte for byte.

use std::fmt::Write;

use serde::Deserialize;

/// The recordings.
const RECORDINGS: &str = include_str!("../../../tests/golden/cli.jsonl");

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

/// What a command did.
#[derive(Debug)]
pub struct Answer {
    /// Its exit status.
    pub status: u8,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// Commands whose result differs, and why; each is followed by what makes the table the recorded one again.
const EXPLAINED: [(&str, usize, &str, &[&str]); 1] = [(
    "schedulers",
    14,
    "lvsadm has the scheduler twos, the recorded kernel had not",
    &["ipvsadm", "-D", "-t", "192.0.2.20:200"],
)];

/// Repeats every recorded command: `run` gets the name of its sequence, each of which begins with an empty table, its
/// argument vector, its standard input, and its recorded status. How many did the same is the result; one that did not is
/// a failed test.
pub fn repeat(mut run: impl FnMut(&str, &[&str], &str, u8) -> Answer) -> usize {
    let (mut same, mut differences) = (0, String::new());
    for line in RECORDINGS.lines() {
        let recorded: Recorded = serde_json::from_str(line).unwrap();
        // The device that daemons are to use is there.
        if recorded.argv[0] == "ip" {
            continue;
        }
        let argv = command(&recorded).unwrap_or_else(|| panic!("{}: unknown program", recorded.seq));
        let answer = run(&recorded.seq, &argv, &recorded.stdin, recorded.rc);
        match EXPLAINED.iter().find(|entry| (entry.0, entry.1) == (recorded.seq.as_str(), recorded.i)) {
            Some(entry) => assert_eq!(run(&recorded.seq, entry.3, "", 0).status, 0, "{}", entry.2),
            None if equal(&recorded, &answer) => same += 1,
            None => {
                let Recorded { seq, i, rc, stdout, stderr, stdin, .. } = &recorded;
                writeln!(differences, "{seq} {i}: {argv:?} {stdin:?}").unwrap();
                writeln!(differences, "  recorded {rc} {stderr:?}\n{stdout}").unwrap();
                writeln!(differences, "  answered {} {:?}\n{}", answer.status, answer.stderr, answer.stdout).unwrap();
            }
        }
    }
    assert!(differences.is_empty(), "{differences}");
    same
}

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

fn equal(recorded: &Recorded, answer: &Answer) -> bool {
    let unsorted = recorded.argv.iter().any(|argument| argument == "--nosort");
    let stdout =
        if unsorted { as_set(&recorded.stdout) == as_set(&answer.stdout) } else { recorded.stdout == answer.stdout };
    stdout && recorded.rc == answer.status && recorded.stderr == answer.stderr
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
