//! lvsadm beside Debian's own ipvsadm, which `lvs-compat` lets work on the same data plane: command lines that nobody wrote,
//! each given to both, each with a director of its own.

use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use tests::is_without_ipvs;
use tests::topology::{Namespace, lvs_compat_path, lvsadm_path};

/// Debian's, whatever else is in `PATH`.
const IPVSADM: &str = "/sbin/ipvsadm";

/// Numbers that look random and are the same each time.
struct Random(fastrand::Rng);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0.usize(..limit)
    }

    /// Once in so many times.
    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

#[rustfmt::skip]
const NUMBERS: &[&str] = &[
    "0", "1", "2", "80", "65535", "65536", "-1", "+5", "007", " 9", "5x", "", "2147483647", "2147483648",
    "4294967296", "99999999999999999999", "0x10", "1e3", "2678400", "2678401", "abc",
];
#[rustfmt::skip]
const ADDRESSES: &[&str] = &[
    "192.0.2.10:80", "192.0.2.10:80", "192.0.2.10:http", "192.0.2.10:53", "192.0.2.11:80", "192.0.2.11:0",
    "192.0.2.10", "192.0.2.10:", "80", "", "1.2.3:80", "0x0a000001:80", "167772161:80", "[1.2.3.4]:80",
    "192.0.2.10:65536", "192.0.2.10:nosuch", "192.0.2.10:80:80", ":80", "-", "255.255.255.255:80", "224.0.0.1:80",
    "0.0.0.0:80", " 10.0.0.1:80",
];
#[rustfmt::skip]
const SERVERS: &[&str] = &[
    "10.0.0.1", "10.0.0.1:8080", "10.0.0.2:80", "10.0.0.2:http", "127.0.0.1:80", "224.0.0.1", "10.0.0.1:", "", "80",
    "0.0.0.0", "255.255.255.255", "10.0.0.4:0",
];
#[rustfmt::skip]
const SCHEDULERS: &[&str] = &[
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "none", "nosuch", "", "RR",
];
#[rustfmt::skip]
const MASKS: &[&str] = &[
    "255.255.255.0", "24", "255.255.255.255", "0.0.0.0", "129", "-1", "255.0.255.0", "", "1.2.3.256",
];
#[rustfmt::skip]
const FLAGS: &[&str] = &[
    "sh-port", "sh-fallback", "mh-port", "mh-fallback", "flag-1", "flag-2", "flag-3", "sh-port,sh-fallback",
    "flag-1,flag-3", "nosuch", "", "flag-1,", "mh-port,flag-1",
];
#[rustfmt::skip]
const ANYTHING: &[&str] = &[
    "-n", "--stats", "--rate", "--exact", "-X", "--nosort", "--sort", "--timeout", "--daemon", "--thresholds",
    "--persistent-conn", "--tun-info", "-6", "-o", "-p", "-q", "--nope", "--num", "-", "--", "x", "-C", "-L", "-h",
    "-v", "--syncid=1", "--mcast-ttl", "--mcast-group=1.2.3.4", "--mcast-port", "0", "-S", "=", "-t", "-w",
    "--weight", "-s", "-g",
];

/// An option with a value, in one of the ways to write it.
fn option(random: &mut Random, names: &[&str], values: &[&str]) -> Vec<String> {
    let (name, value) = (random.of(names), random.of(values));
    match (name.starts_with("--"), random.below(4)) {
        (true, 0 | 1) => vec![format!("{name}={value}")],
        (false, 0) if !value.is_empty() => vec![format!("{name}{value}")],
        (false, 1) => vec![format!("{name}={value}")],
        _ => vec![name.to_owned(), value.to_owned()],
    }
}

fn service(random: &mut Random) -> Vec<String> {
    match random.below(20) {
        0..=10 => option(random, &["-t", "--tcp-service"], ADDRESSES),
        11..=14 => option(random, &["-u", "--udp-service"], ADDRESSES),
        15 => option(random, &["--sctp-service"], ADDRESSES),
        16..=18 => option(random, &["-f", "--fwmark-service"], &[&["7"; 12][..], NUMBERS].concat()),
        _ => Vec::new(),
    }
}

fn service_options(random: &mut Random) -> Vec<Vec<String>> {
    let mut options = Vec::new();
    if !random.once_in(3) {
        options.push(option(random, &["-s", "--scheduler"], SCHEDULERS));
    }
    if random.once_in(3) {
        options.push(option(random, &["-p", "--persistent"], &[&["300"; 6][..], NUMBERS].concat()));
    }
    if random.once_in(8) {
        options.push(vec!["-p".to_owned()]);
    }
    if random.once_in(5) {
        options.push(option(random, &["-M", "--netmask"], MASKS));
    }
    if random.once_in(5) {
        options.push(option(random, &["-b", "--sched-flags"], FLAGS));
    }
    if random.once_in(10) {
        options.push(vec!["-o".to_owned()]);
    }
    options
}

fn server_options(random: &mut Random) -> Vec<Vec<String>> {
    let mut options = Vec::new();
    if !random.once_in(3) {
        options.push(vec![random.of(&["-m", "-g", "-i", "--masquerading", "--gatewaying", "--ipip"]).to_owned()]);
    }
    for (names, odds) in [(["-w", "--weight"], 2), (["-x", "--u-threshold"], 4), (["-y", "--l-threshold"], 5)] {
        if random.once_in(odds) {
            options.push(option(random, &names, NUMBERS));
        }
    }
    if random.once_in(12) {
        options.push(option(random, &["--tun-type"], &["ipip", "gue", "gre", "nosuch"]));
    }
    if random.once_in(16) {
        options.push(option(random, &["--tun-port"], NUMBERS));
    }
    if random.once_in(16) {
        options.push(vec![random.of(&["--tun-csum", "--tun-nocsum", "--tun-remcsum"]).to_owned()]);
    }
    options
}

/// The arguments of a command that makes sense more often than not.
fn command(random: &mut Random) -> Vec<String> {
    let server = |random: &mut Random| option(random, &["-r", "--real-server"], SERVERS);
    let (first, mut parts) = match random.below(50) {
        0..=12 => (random.of(&["-A", "--add-service"]), {
            let mut parts = vec![service(random)];
            parts.extend(service_options(random));
            parts
        }),
        13..=15 => (random.of(&["-E", "--edit-service"]), {
            let mut parts = vec![service(random)];
            parts.extend(service_options(random));
            parts
        }),
        16..=17 => ("-D", vec![service(random)]),
        18..=28 => (random.of(&["-a", "--add-server"]), {
            let mut parts = vec![service(random), server(random)];
            parts.extend(server_options(random));
            parts
        }),
        29..=32 => (random.of(&["-e", "--edit-server"]), {
            let mut parts = vec![service(random), server(random)];
            parts.extend(server_options(random));
            parts
        }),
        33..=34 => ("-d", vec![service(random), server(random)]),
        35..=41 => (random.of(&["-L", "-l", "--list", "-Ln", "-ln"]), {
            (0..random.below(4)).map(|_| vec![random.of(&ANYTHING[..12]).to_owned()]).collect()
        }),
        42 => ("-Z", if random.once_in(2) { vec![service(random)] } else { Vec::new() }),
        43..=44 => ("--set", (0..1 + random.below(4)).map(|_| vec![random.of(NUMBERS).to_owned()]).collect()),
        45 => (random.of(&["-S", "-Sn", "--save"]), Vec::new()),
        46 => ("-C", Vec::new()),
        _ => (random.of(ANYTHING), Vec::new()),
    };
    if parts.len() > 1 && random.once_in(5) {
        let (one, other) = (random.below(parts.len()), random.below(parts.len()));
        parts.swap(one, other);
    }
    let mut arguments: Vec<String> = [first.to_owned()].into_iter().chain(parts.into_iter().flatten()).collect();
    if random.once_in(12) {
        arguments.insert(random.below(arguments.len() + 1), random.of(ANYTHING).to_owned());
    }
    if random.once_in(20) {
        arguments.remove(random.below(arguments.len()));
    }
    arguments
}

/// Status and output of a program that believes to be `ipvsadm`.
fn run(namespace: &Namespace, mut program: Command, arguments: &[String]) -> (Option<i32>, String, String) {
    program.arg0("ipvsadm").args(arguments).env("LANG", "C");
    let Output { status, stdout, stderr } = namespace.enter(|| Ok(program.output()?)).unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (status.code(), text(&stdout), text(&stderr))
}

#[test]
fn both_say_and_do_the_same() {
    if !is_without_ipvs() {
        return;
    }
    let [theirs, ours] = ["theirs", "ours"].map(|label| Namespace::new(label).unwrap());
    // So that what is loaded goes with them.
    for namespace in [&theirs, &ours] {
        namespace.lvsadm("-Ln").unwrap();
    }
    let debians = |arguments: &[String]| {
        let mut program = Command::new(IPVSADM);
        // It prints the name of a persistence engine that it has never asked for: what it allocates shall be zeros.
        program.env("LD_PRELOAD", lvs_compat_path()).env("MALLOC_PERTURB_", "255");
        run(&theirs, program, arguments)
    };
    let lvsadm = |arguments: &[String]| run(&ours, Command::new(lvsadm_path()), arguments);
    let arguments = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let mut random = Random(fastrand::Rng::with_seed(2));
    let mut accepted = 0;
    for round in 0..500 {
        let line = command(&mut random);
        let (expected, answer) = (debians(&line), lvsadm(&line));
        // The ABI that it speaks there is IPv4's alone.
        if expected.2.contains("with specified address family") || line.iter().any(|word| word.starts_with("-6")) {
            for director in [&theirs, &ours] {
                director.lvsadm("-C").unwrap();
            }
            continue;
        }
        assert_eq!(answer, expected, "{line:?}");
        accepted += u32::from(expected.0 == Some(0));
        if round % 25 == 0 {
            for listing in ["-Ln", "-Ln --thresholds", "-Sn", "-L --timeout"].map(arguments) {
                assert_eq!(lvsadm(&listing), debians(&listing), "after {line:?}: {listing:?}");
            }
        }
    }
    assert!(accepted > 80, "{accepted}");
}
