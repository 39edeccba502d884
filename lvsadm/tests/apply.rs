//! `lvsadm apply` and `save --full` without a data plane: files, differences, and carrying them out.

mod common;

use std::net::IpAddr;
use std::path::Path;

use common::TestNames;
use common::tables::{configured, filled, related};
use lvs_director::dataplane;
use lvs_director::director::{Director, Error, MemoryDirector, Result, Wanted, rules};
use lvs_director::rules::{
    AccessChange, AccessEntry, AccessKind, Attached, Change, Connection, Daemon, Destination, DestinationKey,
    LocalEntry, Mark, Role, Rule, RuleKey, Service, ServiceEntry, ServiceKey, Timeouts, difference,
};
use lvsadm::apply::file::Script;
use lvsadm::apply::{Refused, carry_out};
use lvsadm::render;
use proptest::prelude::*;

/// What a file wants that has no mistake.
fn script(text: &str) -> Script {
    let (script, mistakes) = Script::read(text, &mut TestNames);
    assert_eq!(mistakes, [], "{text}");
    script
}

/// The steps from what is configured to what a file wants.
fn steps(director: &MemoryDirector, text: &str) -> Vec<Change> {
    difference(&rules(director).unwrap(), &script(text).rules(director).unwrap())
}

/// `save --full`
fn saved(director: &MemoryDirector) -> String {
    render::full(&[], &rules(director).unwrap())
}

/// Carries steps out on a director without devices.
fn go<D: Director>(director: &mut D, steps: &[Change]) -> std::result::Result<(), Refused> {
    carry_out(director, steps, &mut |_, _, _| Ok(()))
}

/// The rules in an order of their own.
fn sorted(director: &MemoryDirector) -> Vec<String> {
    let mut lines: Vec<String> = rules(director).unwrap().iter().map(|rule| format!("{rule:?}")).collect();
    lines.sort();
    lines
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_saved_is_no_difference(director in configured()) {
        prop_assert_eq!(steps(&director, &saved(&director)), []);
    }

    #[test]
    fn what_ipvsadm_saves_is_no_difference_where_that_loses_nothing(mut director in filled()) {
        let text = common::ipvsadm(&mut director, &["lvsadm", "-Sn"], "").stdout;
        prop_assert_eq!(steps(&director, &text), []);
    }

    #[test]
    fn from_nothing_a_saved_file_makes_the_same_in_the_same_order(director in configured()) {
        let mut restored = MemoryDirector::default();
        let steps = steps(&restored, &saved(&director));
        prop_assert_eq!(go(&mut restored, &steps), Ok(()));
        prop_assert_eq!(saved(&restored), saved(&director));
    }

    #[test]
    fn from_anything_to_anything((mut one, other) in related()) {
        let steps = steps(&one, &saved(&other));
        prop_assert_eq!(go(&mut one, &steps), Ok(()));
        prop_assert_eq!(sorted(&one), sorted(&other));
    }

    #[test]
    fn refused_half_way_nothing_is_changed((one, other) in related(), after in 0..60usize) {
        let before = saved(&one);
        let steps = steps(&one, &saved(&other));
        let mut director = Refusing { inner: one, after };
        if go(&mut director, &steps).is_err() {
            prop_assert_eq!(saved(&director.inner), before);
        } else {
            prop_assert_eq!(sorted(&director.inner), sorted(&other));
        }
    }

    #[test]
    fn no_file_is_fatal(text in any::<String>(), line in "[-a-zA-Z0-9:.=# ]{0,60}") {
        let _ = Script::read(&format!("{line}\n{text}"), &mut TestNames);
    }
}

/// A director that makes some changes and refuses the next.
struct Refusing {
    inner: MemoryDirector,
    after: usize,
}

impl Refusing {
    fn next(&mut self) -> Result<&mut MemoryDirector> {
        self.after = self.after.checked_sub(1).ok_or(Error::NoMemory)?;
        Ok(&mut self.inner)
    }
}

impl Director for Refusing {
    fn add_service(&mut self, service: &Service) -> Result<()> {
        self.next()?.add_service(service)
    }
    fn edit_service(&mut self, service: &Service) -> Result<()> {
        self.next()?.edit_service(service)
    }
    fn delete_service(&mut self, key: &ServiceKey) -> Result<()> {
        self.next()?.delete_service(key)
    }
    fn flush(&mut self) -> Result<()> {
        self.next()?.flush()
    }
    fn zero(&mut self, key: Option<&ServiceKey>) -> Result<()> {
        self.inner.zero(key)
    }
    fn add_destination(&mut self, service: &ServiceKey, destination: &Destination) -> Result<()> {
        self.next()?.add_destination(service, destination)
    }
    fn edit_destination(&mut self, service: &ServiceKey, destination: &Destination) -> Result<()> {
        self.next()?.edit_destination(service, destination)
    }
    fn delete_destination(&mut self, service: &ServiceKey, destination: &DestinationKey) -> Result<()> {
        self.next()?.delete_destination(service, destination)
    }
    fn services(&self, wanted: Wanted) -> Result<Vec<ServiceEntry>> {
        self.inner.services(wanted)
    }
    fn service(&self, key: &ServiceKey, wanted: Wanted) -> Result<ServiceEntry> {
        self.inner.service(key, wanted)
    }
    fn timeouts(&self) -> Result<Timeouts> {
        self.inner.timeouts()
    }
    fn set_timeouts(&mut self, timeouts: Timeouts) -> Result<()> {
        self.inner.set_timeouts(timeouts)
    }
    fn sysctls(&self) -> Result<lvs_common::abi::Sysctls> {
        self.inner.sysctls()
    }
    fn set_sysctls(&mut self, sysctls: &lvs_common::abi::Sysctls) -> Result<()> {
        self.inner.set_sysctls(sysctls)
    }
    fn marks(&self) -> Result<Vec<Mark>> {
        self.inner.marks()
    }
    fn set_marks(&mut self, marks: &[Mark]) -> Result<()> {
        self.next()?.set_marks(marks)
    }
    fn locals(&self, service: Option<&ServiceKey>) -> Result<Vec<LocalEntry>> {
        self.inner.locals(service)
    }
    fn set_locals(&mut self, service: Option<&ServiceKey>, addresses: &[IpAddr]) -> Result<()> {
        self.next()?.set_locals(service, addresses)
    }
    fn access(&self, kind: AccessKind, service: Option<&ServiceKey>) -> Result<Vec<AccessEntry>> {
        self.inner.access(kind, service)
    }
    fn edit_access(&mut self, kind: AccessKind, service: Option<&ServiceKey>, change: &AccessChange) -> Result<()> {
        self.next()?.edit_access(kind, service, change)
    }
    fn start_daemon(&mut self, daemon: &Daemon) -> Result<()> {
        self.inner.start_daemon(daemon)
    }
    fn stop_daemon(&mut self, role: Role) -> Result<()> {
        self.inner.stop_daemon(role)
    }
    fn daemons(&self) -> Result<Vec<Daemon>> {
        self.inner.daemons()
    }
    fn connections(&self, visit: &mut dyn FnMut(&Connection)) -> Result<()> {
        self.inner.connections(visit)
    }
    fn table_size(&self) -> Result<u32> {
        self.inner.table_size()
    }
    fn begin(&mut self) -> Result<()> {
        self.inner.begin()
    }
    fn commit(&mut self) -> Result<()> {
        self.after.checked_sub(1).ok_or(Error::NoMemory).map(drop).or_else(|error| {
            self.inner.abort()?;
            Err(error)
        })?;
        self.inner.commit()
    }
    fn abort(&mut self) -> Result<()> {
        self.inner.abort()
    }
}

const WEB: &str = "-A -t 192.0.2.10:80 -s wrr -p 100 # the web
    -a -t 192.0.2.10:80 -r 10.0.0.1:8080 -m -w 3 -x 100 -y 50
  lvsadm -a -t 192.0.2.10:80 -r 10.0.0.2:8080 -m -w 3\r

#-A -t 192.0.2.10:81
--set 600 0 100
ipvsadm -A -f 7 -6
sysctl drop_entry=1 net.ipv4.vs.sloppy_tcp=1
";

#[test]
fn the_steps_are_shown_as_lines_that_go_and_come() {
    let mut director = MemoryDirector::default();
    let shown = render::changes(&steps(&director, WEB));
    assert_eq!(
        shown,
        "- --set 900 120 300\n+ --set 600 120 100\n\
         - sysctl drop_entry=0\n+ sysctl drop_entry=1\n\
         - sysctl sloppy_tcp=0\n+ sysctl sloppy_tcp=1\n\
         + -A -t 192.0.2.10:80 -s wrr -p 100\n\
         + -a -t 192.0.2.10:80 -r 10.0.0.1:8080 -m -w 3 -x 100 -y 50\n\
         + -a -t 192.0.2.10:80 -r 10.0.0.2:8080 -m -w 3\n\
         + -A -f 7 -6 -s wlc\n"
    );
    let first = steps(&director, WEB);
    go(&mut director, &first).unwrap();
    assert_eq!(steps(&director, WEB), []);
    // What a file does not name is deleted, or stays as it is if it is a setting.
    let other = "-A -f 7 -6 -s rr\n-a -f 7 -6 -r [2001:db8::1]:80 -g\nsysctl --reset drop_entry=1";
    assert_eq!(
        render::changes(&steps(&director, other)),
        "- -A -t 192.0.2.10:80 -s wrr -p 100\n\
         - -a -t 192.0.2.10:80 -r 10.0.0.1:8080 -m -w 3 -x 100 -y 50\n\
         - -a -t 192.0.2.10:80 -r 10.0.0.2:8080 -m -w 3\n\
         - sysctl sloppy_tcp=1\n+ sysctl sloppy_tcp=0\n\
         - -A -f 7 -6 -s wlc\n+ -A -f 7 -6 -s rr\n\
         + -a -f 7 -6 -r [2001:db8::1]:80 -g -w 1\n"
    );
}

#[test]
fn marks_stay_unless_they_are_flushed() {
    let mut director = MemoryDirector::default();
    let first = steps(&director, "mark add --mark 7 --to 192.0.2.0/24 --dport 80 --protocol tcp\nmark add --mark 8 -6");
    go(&mut director, &first).unwrap();
    // The same traffic under another mark, a rule that is not there taken back, one that is.
    let second = steps(
        &director,
        "mark add --mark 9 --protocol tcp --to 192.0.2.0/24 --dport 80\nmark del --to 10.0.0.1\n\
         mark add --mark 1 --to 10.0.0.2\nmark del --to 10.0.0.2\nmark add --mark 2 --to 10.0.0.2",
    );
    assert_eq!(
        render::changes(&second),
        "+ mark add --mark 2 --to 10.0.0.2\n\
         - mark add --mark 7 --protocol tcp --to 192.0.2.0/24 --dport 80\n\
         + mark add --mark 9 --protocol tcp --to 192.0.2.0/24 --dport 80\n"
    );
    go(&mut director, &second).unwrap();
    assert_eq!(
        render::changes(&steps(&director, "mark flush\nmark add --mark 8 -6")),
        "- mark add --mark 2 --to 10.0.0.2\n- mark add --mark 9 --protocol tcp --to 192.0.2.0/24 --dport 80\n"
    );
    let (_, mistakes) =
        Script::read("mark flush\nmark add --mark 1\nmark add --mark 2\nmark list\nmark add --mark 0", &mut TestNames);
    let told: Vec<String> = mistakes.iter().map(|mistake| mistake.text(Path::new("x"))).collect();
    assert_eq!(told[0], "x:3: there is a rule about that traffic already: `mark add --mark 2'");
    assert!(
        told[1].starts_with("x:4: it configures nothing") && told[2].starts_with("x:5: invalid value '0'"),
        "{told:?}"
    );
}

#[test]
fn a_file_is_a_script_that_begins_with_an_empty_table() {
    let text = "-C\n-A -t 192.0.2.10:80\n-a -t 192.0.2.10:80 -r 10.0.0.1 -m\n-a -t 192.0.2.10:80 -r 10.0.0.2 -m\n\
                -E -t 192.0.2.10:80 -s rr\n-e -t 192.0.2.10:80 -r 10.0.0.1 -m -w 9\n-d -t 192.0.2.10:80 -r 10.0.0.2\n\
                -A -t 192.0.2.10:81\n-D -t 192.0.2.10:81\n";
    let same = "-A -t 192.0.2.10:80 -s rr\n-a -t 192.0.2.10:80 -r 10.0.0.1:80 -m -w 9\n";
    let empty = MemoryDirector::default();
    assert_eq!(steps(&empty, text), steps(&empty, same));
    let key = RuleKey::Service(ServiceKey::Address {
        protocol: lvs_director::rules::Protocol::Tcp,
        address: [192, 0, 2, 10].into(),
        port: 80,
    });
    assert_eq!(script(text).line(&key), Some(5));
}

#[test]
fn every_mistake_is_told_with_its_line() {
    let text = "-A -t 192.0.2.10:80\n-A -t 192.0.2.10:80 -s rr\n# fine\n-a -t 192.0.2.10:80 -r 10.0.0.1 -w x\n\
                -a -t 192.0.2.11:80 -r 10.0.0.1\nsysctl drop_entry=9\nsysctl drop_entry\nstatus\nattach --mode fast\n\
                -L\nnonsense\n-n\n-A -f 1 --pe foo\n-A -Q\n-a -t 192.0.2.10:80 -r 10.0.0.1 -y 5\n-6 -f 1\n\
                -A -6 -f 1\n-R\n--start-daemon master\n-Z\n-h\n";
    let (_, mistakes) = Script::read(text, &mut TestNames);
    let told: Vec<String> = mistakes.iter().map(|mistake| mistake.text(Path::new("x"))).collect();
    let nothing = "it configures nothing: a rules file takes -A -E -D -a -e -d -P -Q -C and --set";
    assert_eq!(
        told,
        [
            "x:2: Service already exists: `-A -t 192.0.2.10:80 -s rr'",
            "x:4: illegal weight specified: `-a -t 192.0.2.10:80 -r 10.0.0.1 -w x'",
            "x:5: Service not defined: `-a -t 192.0.2.11:80 -r 10.0.0.1'",
            "x:6: drop_entry takes a number from 0 to 3, not `9': `sysctl drop_entry=9'",
            "x:7: `sysctl drop_entry' sets nothing: it takes NAME=VALUE here: `sysctl drop_entry'",
            "x:8: it configures nothing: a rules file takes sysctl, mark add, mark del, mark flush, block, allow, attach and detach: `status'",
            "x:9: invalid value 'fast' for '--mode <MODE>': `attach --mode fast'",
            &format!("x:10: {nothing}: `-L'"),
            "x:11: unrecognized subcommand 'nonsense': `nonsense'",
            "x:12: it begins with no command: `-n'",
            "x:13: Scheduler or persistence engine not found: `-A -f 1 --pe foo'",
            "x:14: invalid option `-Q': `-A -Q'",
            "x:15: Numerical result out of range: `-a -t 192.0.2.10:80 -r 10.0.0.1 -y 5'",
            "x:16: it begins with no command: `-6 -f 1'",
            "x:17: -6 used before -f: `-A -6 -f 1'",
            &format!("x:18: {nothing}: `-R'"),
            &format!("x:19: {nothing}: `--start-daemon master'"),
            &format!("x:20: {nothing}: `-Z'"),
            &format!("x:21: {nothing}: `-h'"),
        ]
    );
}

/// Steps about devices, with a table's between them.
fn device_steps() -> Vec<Change> {
    let device = |name: &str, attached| Rule::Device(name.to_owned(), attached);
    let mut steps = vec![Change::Delete(device("eth9", Attached::Native))];
    steps.extend(self::steps(&MemoryDirector::default(), WEB));
    steps.push(Change::Add(device("eth0", Attached::Native)));
    steps.push(Change::Edit { from: device("eth1", Attached::Tc), to: device("eth1", Attached::Generic) });
    steps
}

#[test]
fn devices_are_attached_before_the_rules_are_in_force_and_detached_after() {
    let mut director = MemoryDirector::default();
    let mut seen = Vec::new();
    carry_out(&mut director, &device_steps(), &mut |_, name, attached| {
        seen.push((name.to_owned(), attached));
        Ok(())
    })
    .unwrap();
    let expected = [("eth0", Some(Attached::Native)), ("eth1", Some(Attached::Generic)), ("eth9", None)];
    assert_eq!(seen, expected.map(|(name, attached)| (name.to_owned(), attached)));
}

#[test]
fn a_device_that_cannot_be_attached_undoes_everything() {
    let mut director = MemoryDirector::default();
    let before = saved(&director);
    let mut devices =
        std::collections::BTreeMap::from([("eth1", Some(Attached::Tc)), ("eth9", Some(Attached::Native))]);
    let was = devices.clone();
    let refused = carry_out(&mut director, &device_steps(), &mut |_, name, attached| {
        if (name, attached) == ("eth1", Some(Attached::Generic)) {
            return Err(dataplane::Error::Unfit("busy".into()));
        }
        match (name, attached) {
            ("eth0", None) => drop(devices.remove("eth0")),
            ("eth0", attached) => drop(devices.insert("eth0", attached)),
            ("eth1", attached) => drop(devices.insert("eth1", attached)),
            other => panic!("{other:?}"),
        }
        Ok(())
    });
    let rule = Some(RuleKey::Device("eth1".to_owned()));
    assert_eq!(refused, Err(Refused { rule, sentence: "busy".to_owned() }));
    assert_eq!((saved(&director), devices), (before, was));
}

#[test]
fn lists_of_clients_stay_unless_they_are_flushed() {
    let mut director = MemoryDirector::default();
    let first = steps(
        &director,
        "-A -t 192.0.2.10:80 -s rr\nblock 198.51.100.7 198.51.100.0/24 --for 10m\nallow -t 192.0.2.10:80 2001:db8::/32",
    );
    go(&mut director, &first).unwrap();
    // What a program put there in between stays, as what is not named does; of a service that goes, it goes.
    let banned = AccessChange::Add(vec![lvs_director::rules::AccessRule {
        prefix: lvs_director::rules::client("203.0.113.9").unwrap(),
        seconds: None,
    }]);
    director.edit_access(AccessKind::Block, None, &banned).unwrap();
    assert_eq!(steps(&director, "-A -t 192.0.2.10:80 -s rr"), []);
    let other = steps(&director, "block --delete 198.51.100.0/24\nblock 198.51.100.7 --for 90\nallow 10.0.0.0/8");
    assert_eq!(
        render::changes(&other),
        "- block 198.51.100.0/24 --for 10m\n- -A -t 192.0.2.10:80 -s rr\n- allow -t 192.0.2.10:80 2001:db8::/32\n\
         - block 198.51.100.7 --for 10m\n+ block 198.51.100.7 --for 1m30s\n+ allow 10.0.0.0/8\n"
    );
    go(&mut director, &other).unwrap();
    assert_eq!(
        render::changes(&steps(&director, "block --flush --all\nblock 203.0.113.9")),
        "- block 198.51.100.7 --for 1m30s\n"
    );
    let mistakes = "block\nblock nowhere\nallow -t 192.0.2.10:80 ::1\nblock --file x";
    let told: Vec<String> = Script::read(mistakes, &mut TestNames).1.iter().map(|m| m.text(Path::new("x"))).collect();
    assert_eq!(
        told,
        [
            "x:1: it configures nothing: a rules file takes sysctl, mark add, mark del, mark flush, block, allow, attach and \
             detach: `block'",
            "x:2: invalid value 'nowhere' for '[ADDRESS[/LENGTH]]...': `nowhere' is no address, nor one with /LENGTH after it: \
             `block nowhere'",
            "x:3: Service not defined: `allow -t 192.0.2.10:80 ::1'",
            "x:4: a rules file has the clients in it, and takes no other file: `block --file x'",
        ]
    );
}
