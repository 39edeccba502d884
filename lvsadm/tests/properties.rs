//! Properties of the command line: saved rules restore to the same rules, and nothing on a command line is fatal.

mod common;

use common::tables::{filled, table};
use common::{TestNames, ipvsadm};
use lvs_director::director::MemoryDirector;
use lvsadm::grammar::{self, Dialect};
use proptest::collection::vec;
use proptest::prelude::*;

/// Words that occur on command lines, and anything.
fn word() -> impl Strategy<Value = String> {
    let known = [
        "-A",
        "-E",
        "-D",
        "-L",
        "-a",
        "-e",
        "-d",
        "-S",
        "-Z",
        "-R",
        "--set",
        "--start-daemon",
        "master",
        "-t",
        "-u",
        "-f",
        "-6",
        "-r",
        "-p",
        "-M",
        "-s",
        "-b",
        "-w",
        "-x",
        "-n",
        "-c",
        "-Ln",
        "--stats",
        "--tun-type",
        "gue",
        "--tun-port=1",
        "-i",
        "-m",
        "--",
        "-",
        "",
        "1",
        "[::1]:80",
        "10.0.0.1:80",
        "sh",
        "sh-port,",
        "=",
        "--pe=",
        "--mcast-group",
    ];
    prop_oneof![4 => (0..known.len()).prop_map(move |index| known[index].to_owned()), 1 => any::<String>()]
}

proptest! {
    #[test]
    fn saved_rules_restore_to_the_same(mut director in filled()) {
        let saved = ipvsadm(&mut director, &["lvsadm", "-Sn"], "").stdout;
        let mut restored = MemoryDirector::default();
        let outcome = ipvsadm(&mut restored, &["lvsadm", "-R"], &saved);
        prop_assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""), "{}", saved);
        prop_assert_eq!(table(&restored), table(&director), "{}", saved);
    }

    #[test]
    fn no_command_line_is_fatal(words in vec(word(), 0..9), literal in any::<bool>()) {
        let arguments: Vec<&str> = words.iter().map(String::as_str).collect();
        let dialect = if literal { Dialect::Literal } else { Dialect::Own };
        let _ = grammar::parse(&arguments, dialect, &mut TestNames);
    }

    #[test]
    fn no_input_of_a_restore_is_fatal(input in any::<String>(), words in vec(word(), 0..9)) {
        let input = format!("{}\n{input}", words.join(" "));
        ipvsadm(&mut MemoryDirector::default(), &["ipvsadm", "-R"], &input);
    }
}
