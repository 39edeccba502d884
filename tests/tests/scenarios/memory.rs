//! How much memory a data plane takes, and what refuses it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Output;

use tests::topology::{MemoryGroup, Namespace, lvsadm_path};

/// Bytes of a MiB.
const MIB: u64 = 1 << 20;

/// One more than the highest number of a CPU that is there.
fn cpus() -> u64 {
    let list = fs::read_to_string("/sys/devices/system/cpu/present").unwrap();
    list.trim().rsplit([',', '-']).next().unwrap().parse::<u64>().unwrap() + 1
}

fn message(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn memory_is_told_before_and_taken_by_cpus_that_are_there() {
    let director = Namespace::new("director").unwrap();
    for connections in ["16384", "100000"] {
        let lvsadm = |arguments: &str| {
            let mut command = director.command(lvsadm_path());
            command.env("LVS_CONNS", connections).args(arguments.split(' ')).output().unwrap()
        };
        let before = message(&lvsadm("status"));
        let told = before.trim().rsplit("with ").next().and_then(|end| end.strip_suffix(" MiB of tables"));
        let told: u64 = told.unwrap_or_else(|| panic!("{before}")).parse().unwrap();
        assert!(lvsadm("-A -t 192.0.2.10:80 -s rr").status.success());
        let taken = director.json("status --json").unwrap()["tables"]["bytes"].as_u64().unwrap();
        assert!(taken.abs_diff(told * MIB) < 3 * MIB, "told {told} MiB, took {taken} bytes");
        if connections == "16384" {
            // 10,240 destinations with 40 bytes for each CPU, and once more for CPUs that come later.
            assert!(taken - (cpus() + 1) * 409_600 < 31 * MIB, "{taken} bytes");
        }
        director.lvsadm("unload").unwrap();
    }
}

#[test]
fn a_control_group_without_room_is_named_and_nothing_is_left() {
    let director = Namespace::new("director").unwrap();
    let group = MemoryGroup::new("keepalived", 64 * MIB).unwrap();
    for arguments in ["-A -t 192.0.2.10:80 -s rr", "attach --conns 1000000"] {
        let output = group.command(&director, lvsadm_path()).args(arguments.split(' ')).output().unwrap();
        let message = message(&output);
        assert_eq!(output.status.code(), Some(2), "{message}");
        let names = format!("the memory limit of control group {} (memory.", group.name());
        assert!(message.contains(&names) && message.contains("64 MiB") && message.lines().count() == 1, "{message}");
    }
    assert!(director.lvsadm("status").unwrap_err().to_string().contains("nothing is loaded"));
    // Others have room, and what they load is there for the group's processes.
    director.lvsadm("-A -t 192.0.2.10:80 -s rr").unwrap();
    let listing = group.command(&director, lvsadm_path()).arg("-Sn").output().unwrap();
    assert_eq!(String::from_utf8(listing.stdout).unwrap(), "-A -t 192.0.2.10:80 -s rr\n");
}

#[test]
fn more_than_the_machine_has_is_refused() {
    let director = Namespace::new("director").unwrap();
    let output = director.command(lvsadm_path()).args(["attach", "--conns", "4000000000"]).output().unwrap();
    let message = message(&output);
    assert!(message.contains("refused by the machine, which has "), "{message}");
    assert_eq!((output.status.code(), message.lines().count()), (Some(2), 1), "{message}");
}

#[test]
fn a_full_table_names_what_makes_room_and_then_there_is_room() {
    let director = Namespace::new("director").unwrap();
    let folder = std::env::temp_dir().join(format!("{}-full", director.name()));
    fs::create_dir(&folder).unwrap();
    symlink(lvsadm_path().canonicalize().unwrap(), folder.join("ipvsadm")).unwrap();
    let rules: String = (1..=4).map(|n| format!("-a -t 192.0.2.10:80 -r 198.51.100.{n}:80 -m\n")).collect();
    fs::write(folder.join("rules"), format!("-A -t 192.0.2.10:80 -s rr\n-A -t 192.0.2.10:81 -s rr\n{rules}")).unwrap();
    let run = |program: &Path, arguments: &str| {
        let sizes = [("LVS_SERVICES", "2"), ("LVS_DESTINATIONS", "3"), ("LVS_CONNS", "1000")];
        let output = director.command(program).envs(sizes).args(arguments.split(' ')).output().unwrap();
        (output.status.code(), message(&output))
    };
    let (own, literal) = (lvsadm_path(), folder.join("ipvsadm"));
    let done = (Some(0), String::new());
    for rule in ["-A -t 192.0.2.10:80 -s rr", "-A -t 192.0.2.10:81 -s mh"] {
        assert_eq!(run(&own, rule), done);
    }
    for number in 1..=3 {
        assert_eq!(run(&own, &format!("-a -t 192.0.2.10:80 -r 198.51.100.{number}:80 -m")), done);
    }
    let before = director.lvsadm("-Sn").unwrap();
    let mend =
        "the tables of services or destinations are full: make room by `lvsadm resize --services` or `--destinations`";
    for refused in ["-A -t 192.0.2.10:82 -s rr", "-a -t 192.0.2.10:80 -r 198.51.100.4:80 -m"] {
        assert_eq!(run(&own, refused), (Some(255), format!("Memory allocation problem: {mend}\n")), "{refused}");
        assert_eq!(run(&literal, refused), (Some(255), "Memory allocation problem\n".to_owned()), "{refused}");
    }
    let (status, said) = run(&own, &format!("apply {}", folder.join("rules").display()));
    assert!(status == Some(2) && said.contains(&format!("rules:6: Memory allocation problem: {mend}\n")), "{said}");
    assert_eq!(director.lvsadm("-Sn").unwrap(), before);
    assert_eq!(run(&own, "resize --services 3 --destinations 4").0, Some(0));
    for taken in ["-A -t 192.0.2.10:82 -s rr", "-a -t 192.0.2.10:80 -r 198.51.100.4:80 -m"] {
        assert_eq!(run(&own, taken), done, "{taken}");
    }
    fs::remove_dir_all(&folder).unwrap();
}
