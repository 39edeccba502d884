//! What the program does by its own name, and by ipvsadm's where the recordings say nothing.

mod common;

use common::{TestNames, ipvsadm};
use lvs_common::abi::Counters;
use lvs_director::director::{Error, MemoryDirector};
use lvs_director::rules::{Connection, Protocol, Rates};
use lvsadm::session::{Outcome, Surroundings, run};

/// A director with a service that forwards by full NAT and by VXLAN.
fn director() -> MemoryDirector {
    let mut director = MemoryDirector::default();
    for line in [
        "-A -t 192.0.2.10:80 -s rr",
        "-a -t 192.0.2.10:80 -r 10.0.0.1:8080 --fullnat",
        "-a -t 192.0.2.10:80 -r 10.0.0.9 -i --tun-type vxlan -w 2",
        "-A -f 4294967295",
    ] {
        let argv: Vec<&str> = ["lvsadm"].into_iter().chain(line.split(' ')).collect();
        assert_eq!(ipvsadm(&mut director, &argv, ""), Outcome::default(), "{line}");
    }
    director
}

/// Runs a command where there is no data plane.
fn without_director(argv: &[&str]) -> Outcome {
    let open = Box::new(|_, _| Err(Error::Os(libc::ENOPROTOOPT)));
    run(argv, Surroundings { stdin: &mut std::io::empty(), names: &mut TestNames, open })
}

#[test]
fn additions_are_listed_and_saved() {
    let mut director = director();
    let listing = ipvsadm(&mut director, &["lvsadm", "-Ln", "--tun-info"], "").stdout;
    assert_eq!(
        listing.lines().skip(3).collect::<Vec<_>>(),
        [
            // First, as the comparison wraps; not negative, as ipvsadm would have it.
            "FWM  4294967295 wlc",
            "TCP  192.0.2.10:80 rr",
            "  -> 10.0.0.1:8080                FullNat n/a           1      0          0         ",
            "  -> 10.0.0.9:80                  Tunnel  vxlan:4789:-c 2      0          0         ",
        ]
    );
    let saved = ipvsadm(&mut director, &["lvsadm", "-Sn"], "").stdout;
    assert_eq!(
        saved,
        "-A -f 4294967295 -s wlc\n\
         -A -t 192.0.2.10:80 -s rr\n\
         -a -t 192.0.2.10:80 -r 10.0.0.1:8080 --fullnat -w 1\n\
         -a -t 192.0.2.10:80 -r 10.0.0.9:80 -i -w 2 --tun-type vxlan --tun-port 4789 --tun-nocsum\n"
    );
}

#[test]
fn a_service_has_timeouts_of_its_own() {
    let mut director = MemoryDirector::default();
    let mut run = |line: &str| {
        let outcome = ipvsadm(&mut director, &line.split(' ').collect::<Vec<_>>(), "");
        let listing = ipvsadm(&mut director, &["lvsadm", "-Ln"], "").stdout;
        (outcome.stderr, listing.lines().nth(3).unwrap_or_default().to_owned())
    };
    let listed = |line: &str| (String::new(), line.to_owned());
    assert_eq!(
        run("lvsadm -A -t 192.0.2.10:80 -s rr -p 60 --conn-timeout 3600"),
        listed("TCP  192.0.2.10:80 rr persistent 60 timeout 3600:0:0")
    );
    // An edit that says nothing of them leaves them, whoever makes it; 0 is the global one.
    assert_eq!(run("lvsadm -E -t 192.0.2.10:80 -s wlc"), listed("TCP  192.0.2.10:80 wlc timeout 3600:0:0"));
    assert_eq!(run("ipvsadm -E -t 192.0.2.10:80 -s rr"), listed("TCP  192.0.2.10:80 rr timeout 3600:0:0"));
    assert_eq!(
        run("lvsadm -E -t 192.0.2.10:80 -s rr --conn-timeout 0:5:7"),
        listed("TCP  192.0.2.10:80 rr timeout 0:5:7")
    );
    for (line, sentence) in [
        (
            "lvsadm -E -t 192.0.2.10:80 --conn-timeout 1:2:3:4",
            "invalid timeout value `1:2:3:4' specified: it is tcp[:tcpfin[:udp]]\n",
        ),
        ("lvsadm -E -t 192.0.2.10:80 --conn-timeout 1:x", "invalid timeout value `x' specified\n"),
        ("lvsadm -E -t 192.0.2.10:80 --conn-timeout 2678401", "invalid timeout value `2678401' specified\n"),
        ("lvsadm --set 1 2 3 --conn-timeout 4", "Illegal 'conn-timeout' option with the 'set' command\n"),
        ("ipvsadm -E -t 192.0.2.10:80 --conn-timeout 1", "--conn-timeout: unknown option\n"),
        ("lvsadm -E -t 192.0.2.11:80", "No such service\n"),
    ] {
        assert_eq!(run(line), (sentence.to_owned(), "TCP  192.0.2.10:80 rr timeout 0:5:7".to_owned()), "{line}");
    }
    assert_eq!(ipvsadm(&mut director, &["ipvsadm", "-Ln"], "").stdout.lines().nth(3), Some("TCP  192.0.2.10:80 rr"));
    assert_eq!(ipvsadm(&mut director, &["lvsadm", "-Sn"], "").stdout, "-A -t 192.0.2.10:80 -s rr\n");
    ipvsadm(&mut director, &["lvsadm", "-E", "-t", "192.0.2.10:80", "-s", "rr", "--conn-timeout", "0"], "");
    assert_eq!(ipvsadm(&mut director, &["lvsadm", "-Ln"], "").stdout.lines().nth(3), Some("TCP  192.0.2.10:80 rr"));
}

#[test]
fn a_service_challenges_when_it_is_told_to() {
    let mut director = MemoryDirector::default();
    let mut run = |line: &str| {
        let outcome = ipvsadm(&mut director, &line.split(' ').collect::<Vec<_>>(), "");
        let listing = ipvsadm(&mut director, &["lvsadm", "-Ln"], "").stdout;
        (outcome.stderr, listing.lines().nth(3).unwrap_or_default().to_owned())
    };
    let listed = |line: &str| (String::new(), line.to_owned());
    assert_eq!(
        run("lvsadm -A -t 192.0.2.10:80 -s rr --conn-timeout 9 -j enable"),
        listed("TCP  192.0.2.10:80 rr timeout 9:0:0 synproxy")
    );
    // An edit that says nothing of it leaves it, whoever makes it.
    assert_eq!(run("ipvsadm -E -t 192.0.2.10:80 -s wlc"), listed("TCP  192.0.2.10:80 wlc timeout 9:0:0 synproxy"));
    assert_eq!(
        run("lvsadm -E -t 192.0.2.10:80 -s rr -p 60 --conn-timeout 0"),
        listed("TCP  192.0.2.10:80 rr persistent 60 synproxy")
    );
    for (line, sentence) in [
        ("lvsadm -E -t 192.0.2.10:80 -j on", "illegal synproxy `on' specified: it is enable or disable\n"),
        ("lvsadm -A -u 192.0.2.10:53 -j enable", "synproxy is only for TCP virtual services\n"),
        ("lvsadm -Z -j enable", "Illegal 'synproxy' option with the 'zero' command\n"),
        ("ipvsadm -E -t 192.0.2.10:80 -j enable", "-j: unknown option\n"),
    ] {
        assert_eq!(
            run(line),
            (sentence.to_owned(), "TCP  192.0.2.10:80 rr persistent 60 synproxy".to_owned()),
            "{line}"
        );
    }
    assert_eq!(
        ipvsadm(&mut director, &["ipvsadm", "-Ln"], "").stdout.lines().nth(3),
        Some("TCP  192.0.2.10:80 rr persistent 60")
    );
    assert_eq!(ipvsadm(&mut director, &["lvsadm", "-Sn"], "").stdout, "-A -t 192.0.2.10:80 -s rr -p 60\n");
    ipvsadm(&mut director, &["lvsadm", "-E", "-t", "192.0.2.10:80", "-s", "rr", "--synproxy", "disable"], "");
    assert_eq!(ipvsadm(&mut director, &["lvsadm", "-Ln"], "").stdout.lines().nth(3), Some("TCP  192.0.2.10:80 rr"));
}

#[test]
fn ipvsadm_knows_nothing_of_additions() {
    let mut director = director();
    let listing = ipvsadm(&mut director, &["/sbin/ipvsadm", "-Ln"], "").stdout;
    assert!(listing.contains("10.0.0.1:8080                Masq    1"), "{listing}");
    let full_nat = ["ipvsadm", "-a", "-t", "192.0.2.10:80", "-r", "10.0.0.2", "--fullnat"];
    let outcome = ipvsadm(&mut director, &full_nat, "");
    assert_eq!((outcome.status, outcome.stderr.as_str()), (255, "--fullnat: unknown option\n"));
    let vxlan = ["ipvsadm", "-a", "-t", "192.0.2.10:80", "-r", "10.0.0.2", "-i", "--tun-type", "vxlan"];
    let outcome = ipvsadm(&mut director, &vxlan, "");
    assert_eq!((outcome.status, outcome.stderr.as_str()), (2, "illegal tunnel type specified\n"));
}

#[test]
fn help_needs_no_data_plane_by_its_own_name_alone() {
    let own = without_director(&["lvsadm", "-h"]);
    assert_eq!((own.status, own.stderr.as_str()), (0, ""));
    assert!(own.stdout.contains("--fullnat") && own.stdout.contains("lvsadm attach"), "{}", own.stdout);
    for argv in [["ipvsadm", "-h"], ["ipvsadm", "--nonsense"]] {
        let literal = without_director(&argv);
        let sentence = "Can't initialize ipvs: Protocol not available\n\
                        Are you sure that IP Virtual Server is built in the kernel or as module?\n";
        assert_eq!((literal.status, literal.stderr.as_str()), (2, sentence));
    }
    let list = without_director(&["lvsadm", "-L"]);
    assert_eq!((list.status, list.stderr.as_str()), (2, "lvsadm: Protocol not available\n"));
    let no_command = without_director(&["lvsadm", "-n"]);
    assert_eq!(no_command.status, 255);
}

#[test]
fn daemons_are_listed_for_programs_too() {
    let mut director = MemoryDirector::default();
    for command in ["--start-daemon backup --syncid 7", "--start-daemon master --mcast-group ff02::81"] {
        let words: Vec<&str> = ["lvsadm"].into_iter().chain(command.split(' ')).collect();
        assert_eq!(ipvsadm(&mut director, &words, "").status, 0);
    }
    let listed = ipvsadm(&mut director, &["lvsadm", "-L", "--daemon", "--json"], "").stdout;
    let daemons: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(daemons[0]["state"], "master");
    assert_eq!((&daemons[0]["group"], &daemons[0]["maxlen"]), (&"ff02::81".into(), &1452.into()));
    assert_eq!((&daemons[1]["state"], &daemons[1]["syncid"]), (&"backup".into(), &7.into()));
}

#[test]
fn numbers_are_scaled_unless_exact() {
    let mut director = director();
    let entry = &mut director.entries[0];
    entry.statistics = Counters {
        conns: 123_456,
        in_packets: 864_192,
        out_packets: 617_280,
        in_bytes: 123_456_789,
        out_bytes: 3_703_000_000,
    };
    let rates = Rates { conns: 1, in_packets: 200_000_000, out_packets: 0, in_bytes: 200_000_000, out_bytes: 0 };
    entry.destinations[0].rates = rates;
    let mut line = |mode: &str, number: usize| {
        let listing = ipvsadm(&mut director, &["ipvsadm", "-Ln", mode, "-t", "192.0.2.10:80"], "").stdout;
        listing.lines().nth(number).unwrap().to_owned()
    };
    assert_eq!(line("--stats", 2), "TCP  192.0.2.10:80                  123456   864192   617280  123456K    3703M");
    // Packet rates of destinations are never scaled.
    assert_eq!(line("--rate", 4), "  -> 10.0.0.9:80                         1 200000000        0  200000K        0");
}

#[test]
fn connections_are_listed_with_names() {
    let mut director = MemoryDirector::default();
    director.connections.push(Connection {
        protocol: Some(Protocol::Udp),
        expires: 299,
        state: "UDP",
        client: ("2001:db8:1::64".parse().unwrap(), 40004),
        virt: ("2001:db8::10".parse().unwrap(), 53),
        real: ("10.0.0.1".parse().unwrap(), 53),
        engine: None,
        local: None,
    });
    assert_eq!(
        ipvsadm(&mut director, &["ipvsadm", "-Lc"], "").stdout.lines().nth(2),
        Some("UDP 04:59  UDP         [2001:db8:1::64]:40004 [vip6.example]:domain rs1.example:domain")
    );
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    let outcome = Outcome { stdout: "x".repeat(1 << 20), ..Outcome::default() };
    let (reader, mut writer) = std::io::pipe().unwrap();
    drop(reader);
    outcome.write(&mut writer, &mut Vec::new()).unwrap();
}

#[test]
fn values_are_counted_and_named_as_ipvsadm_does() {
    let mut director = director();
    // Seen of the real one, though not recorded.
    let set = ipvsadm(&mut director, &["ipvsadm", "--set", "1", "0x10"], "");
    assert_eq!((set.status, set.stderr.as_str()), (2, "--set option requires 3 timeout values\n"));
    assert_eq!(ipvsadm(&mut director, &["ipvsadm", "-A", "-f", "7"], "").stderr, "");
    let named = ipvsadm(&mut director, &["ipvsadm", "-a", "-f", "7", "-r", "rs1:http", "-m"], "");
    assert_eq!(named.stderr, "");
    let early = ipvsadm(&mut director, &["ipvsadm", "-a", "-r", "rs2:http", "-f", "7", "-m"], "");
    assert_eq!((early.status, early.stderr.as_str()), (2, "illegal real server address[:port] specified\n"));
    let listing = ipvsadm(&mut director, &["ipvsadm", "-Ln", "-f", "7"], "").stdout;
    assert!(listing.contains("-> 10.0.0.1:80 "), "{listing}");
}
