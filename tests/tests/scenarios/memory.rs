//! How much memory a data plane takes, and what refuses it.

use std::fs;
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
