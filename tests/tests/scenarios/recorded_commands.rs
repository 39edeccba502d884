//! Every recorded command of the real ipvsadm, as a process on the data plane; those that are refused leave everything as it
//! was.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Stdio;

use tests::topology::{Namespace, lvsadm_path};

#[path = "../../../lvsadm/tests/common/recorded.rs"]
mod recorded;

use recorded::{Answer, repeat};

/// The hosts of the machine of the recordings.
const HOSTS: &str = "127.0.0.1 localhost\n192.0.2.10 vip.example vip\n192.0.2.11 vip2.example\n10.0.0.1 rs1.example rs1\n\
                     10.0.0.2 rs2.example rs2\n10.0.0.3 a-very-long-real-server-name.dept.example.org\n\
                     2001:db8::10 vip6.example\n2001:db8:1::1 rs6a.example\n";

/// Folders that go with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(path: PathBuf) -> Self {
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn every_recorded_command_is_repeated() {
    let director = Namespace::new("director").unwrap();
    let etc = Folder::new(PathBuf::from("/etc/netns").join(director.name()));
    fs::write(etc.0.join("hosts"), HOSTS).unwrap();
    fs::write(etc.0.join("resolv.conf"), "").unwrap();
    let programs = Folder::new(std::env::temp_dir().join(format!("{}-programs", director.name())));
    for name in ["ipvsadm", "ipvsadm-save", "ipvsadm-restore"] {
        symlink(lvsadm_path(), programs.0.join(name)).unwrap();
    }
    let path = format!("PATH={}:{}", programs.0.display(), std::env::var("PATH").unwrap());
    director.ip(&["link add eth0 type veth peer name peer0", "link set eth0 up", "link set peer0 up"]).unwrap();
    director.lvsadm("-Ln").unwrap();
    // Without `ip` and its mount namespace, which take longer than lvsadm.
    let everything = || {
        let mut command = std::process::Command::new(lvsadm_path());
        director.enter(|| Ok(command.args(["save", "--full"]).output()?)).unwrap().stdout
    };
    let (mut now, mut refused) = (String::new(), 0);
    let same = repeat(|sequence, argv, stdin, expected| {
        if now != sequence {
            // As if in a namespace of its own, without the seconds it takes to load anew.
            director.lvsadm("-C").unwrap();
            director.lvsadm("--set 900 120 300").unwrap();
            sequence.clone_into(&mut now);
        }
        // What a restore did before the line that ends it stays done.
        let before = (expected != 0 && stdin.is_empty()).then(everything);
        let mut command = director.command("env");
        command.args([&path, "LANG=C"]).args(argv);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // One that is refused may not read it.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        let output = child.wait_with_output().unwrap();
        if let Some(before) = before
            && !output.status.success()
        {
            assert!(!before.is_empty() && before == everything(), "{sequence}: {argv:?}");
            refused += 1;
        }
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let status = output.status.code().unwrap() as u8;
        Answer { status, stdout: text(output.stdout), stderr: text(output.stderr) }
    });
    assert!(same == 938 && refused > 250, "{same} the same, {refused} refused");
}
