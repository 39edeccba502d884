//! The files in `examples/`: each is read by the program that it is for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::topology::{Namespace, Offloads, connect};

/// A file or folder of `examples/`.
fn example(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(path)
}

/// The rules files, in order.
fn rules() -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(example("rules")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 4, "{files:?}");
    files
}

#[test]
fn examples_of_rules_files_are_applied() {
    for file in rules() {
        let (director, network) = (Namespace::new("director").unwrap(), Namespace::new("network").unwrap());
        connect((&director, "eth0"), (&network, "eth0"), Offloads::Off).unwrap();
        let apply = |option: &str| director.lvsadm(&format!("apply {option} {}", file.display())).unwrap();
        assert!(!apply("--dry-run").is_empty(), "{}", file.display());
        apply("");
        assert_eq!(apply("--dry-run"), "", "{}", file.display());
        // What is saved is the same again.
        let (saved, copy) = (director.lvsadm("save --full").unwrap(), format!("{}.rules", director.name()));
        let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join(copy);
        fs::write(&copy, &saved).unwrap();
        assert_eq!(director.lvsadm(&format!("apply --dry-run {}", copy.display())).unwrap(), "", "{saved}");
        fs::remove_file(&copy).unwrap();
    }
}

#[test]
fn keepalived_ldirectord_and_bird_accept_their_examples() {
    // keepalived asks for the interfaces that the examples name.
    let director = Namespace::new("director").unwrap();
    let network = Namespace::new("network").unwrap();
    for device in ["eth0", "eth1"] {
        connect((&director, device), (&network, device), Offloads::Off).unwrap();
    }
    for file in ["keepalived.conf", "keepalived-pair.conf"] {
        let file = example(file);
        director.run(&format!("/usr/sbin/keepalived --config-test --use-file {}", file.display())).unwrap();
    }

    for file in ["bird.conf", "router.conf"] {
        director.run(&format!("/usr/sbin/bird -p -c {}", example("fleet").join(file).display())).unwrap();
    }

    // `status` reads the whole file. 3 is LSB's "not running"; a mistake in the file is another status.
    let output = director.command("/usr/sbin/ldirectord").arg(example("ldirectord.cf")).arg("status").output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}

#[test]
fn systemd_finds_no_fault_in_the_examples() {
    let units = ["timer", "service"].map(|kind| example(&format!("prometheus/lvsadm-metrics.{kind}")));
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&units).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // The program itself need not be installed here.
    let ours = |line: &&str| line.contains("lvsadm-metrics") && !line.contains("is not executable");
    let faults: Vec<&str> = said.lines().filter(ours).collect();
    assert!(faults.is_empty(), "{said}");
}
