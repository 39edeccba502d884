//! What the agent writes to the journal.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use tests::eventually;
use tests::topology::{Cluster, Layout, lvsadm_path};

/// Fields and their values.
type Entry = BTreeMap<String, Vec<String>>;

/// A journal in a folder of its own, which a process sees where journald's is.
struct Journal {
    folder: PathBuf,
    socket: UnixDatagram,
}

impl Journal {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("{name}-journal"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let socket = UnixDatagram::bind(folder.join("socket")).unwrap();
        socket.set_nonblocking(true).unwrap();
        Journal { folder, socket }
    }

    /// The fields of the next entry if one has come, which are those of systemd's native protocol: `NAME=value`, or the name, a length
    /// and the value.
    fn entry(&self) -> Option<Entry> {
        let mut buffer = vec![0; 1 << 16];
        // Who begins asks with nothing whether somebody listens.
        let length = tests::uninterrupted(|| self.socket.recv(&mut buffer)).ok().filter(|length| *length != 0)?;
        let (mut rest, mut fields) = (&buffer[..length], Entry::new());
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8(rest[..end].to_vec()).unwrap();
            rest = &rest[end + 1..];
            let (name, value) = match line.split_once('=') {
                Some((name, value)) => (name.to_owned(), value.to_owned()),
                None => {
                    let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
                    let value = String::from_utf8(rest[8..8 + length].to_vec()).unwrap();
                    rest = &rest[8 + length + 1..];
                    (line, value)
                }
            };
            fields.entry(name).or_default().push(value);
        }
        Some(fields)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Makes the folder `$0` the journal's in a mount namespace, and runs the rest.
const WITH_JOURNAL: &str = "mkdir -p /run/systemd/journal && mount --bind \"$0\" /run/systemd/journal && exec \"$@\"";

#[test]
fn changes_of_health_are_told_once_with_fields() {
    let cluster = Cluster::new(Layout { servers: 1, ..Layout::default() }).unwrap();
    let director = &cluster.director;
    director.sysctl(&["net/ipv4/ip_forward=1"]).unwrap();
    director.lvsadm("-A -t 10.10.10.10:80 -s rr").unwrap();
    director.lvsadm("-a -t 10.10.10.10:80 -r 192.168.122.101 -m -w 0").unwrap();

    let journal = Journal::new(director.name());
    let stderr = File::create(journal.folder.join("stderr")).unwrap();
    let told = stderr.metadata().unwrap();
    let mut agent = director.command("unshare");
    agent.args(["--mount", "sh", "-c", WITH_JOURNAL]).arg(&journal.folder).arg(lvsadm_path()).arg("agent");
    agent.env("JOURNAL_STREAM", format!("{}:{}", told.dev(), told.ino())).stderr(stderr);
    director.adopt(&mut agent).unwrap();
    eventually("the agent watches", || director.json("status --json").is_ok_and(|status| status["agent"] == true));

    // Changes are made again and again until all are told: the first look, with which nothing is compared, has no date. What is told
    // twice would fail the test at the end.
    let told = RefCell::new(BTreeMap::<String, Vec<Entry>>::new());
    let events = |changes: &dyn Fn(), expected: &[&str]| {
        eventually(&format!("these are told: {expected:?}"), || {
            changes();
            while let Some(entry) = journal.entry() {
                told.borrow_mut().entry(entry["LVS_EVENT"][0].clone()).or_default().push(entry);
            }
            expected.iter().all(|event| told.borrow().contains_key(*event))
        });
        let mut told = told.take();
        expected.iter().map(|event| told.remove(*event).unwrap().remove(0)).collect::<Vec<_>>()
    };
    let is = |entry: &Entry, name: &str, value: &str| {
        assert_eq!(entry.get(name).map(|values| &**values), Some(&[value.to_owned()][..]), "{entry:?}");
    };
    let neighbour = |state: &str| {
        let entry = "192.168.122.101 dev eth1 lladdr 02:00:00:00:00:99";
        director.run(&format!("ip neigh replace {entry} nud reachable")).unwrap();
        director.run(&format!("ip neigh change {entry} nud {state}")).unwrap();
    };
    let worse = events(
        &|| {
            let _ = cluster.client.run("curl --silent --max-time 0.2 http://10.10.10.10/");
            neighbour("failed");
        },
        &["drop", "neighbour"],
    );
    is(&worse[0], "LVS_REASON", "drop-no-server");
    is(&worse[0], "PRIORITY", "4");
    is(&worse[0], "SYSLOG_IDENTIFIER", "lvsadm");
    assert!(worse[0]["MESSAGE"][0].starts_with("packets are dropped (drop-no-server)"), "{worse:?}");
    is(&worse[1], "LVS_TURN", "worse");
    is(&worse[1], "LVS_REAL_SERVER", "192.168.122.101");
    is(&worse[1], "LVS_SERVICE", "TCP 10.10.10.10:80");

    // Dropping goes on, which is no news.
    let _ = cluster.client.run("curl --silent --max-time 0.2 http://10.10.10.10/");
    neighbour("permanent");
    director.lvsadm("detach --dev eth0").unwrap();
    let better = events(&|| {}, &["neighbour", "device-detached"]);
    is(&better[0], "LVS_TURN", "better");
    is(&better[0], "PRIORITY", "5");
    is(&better[1], "LVS_DEVICE", "eth0");
    director.lvsadm("attach --dev eth0").unwrap();
    is(&events(&|| {}, &["device-attached"])[0], "LVS_DEVICE", "eth0");
    // Each was told once.
    assert!(told.take().is_empty());
}
