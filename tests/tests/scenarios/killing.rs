//! Commands that are killed before one of their system calls: the next command works, what is configured is as before or as after, and
//! nothing is left of the command.
//!
//! Each command is killed before a few of them. The ignored test kills each before every one in turn, or with `LVS_KILL_EVERY=n` before
//! every n-th.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::{env, process};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::killed::{self, End};
use tests::topology::{Namespace, lvsadm_path};

/// Before how many system calls a command is killed if not before each: one that loads takes a second.
const SAMPLES: usize = 6;
const SAMPLES_OF_LOADS: usize = 3;

/// Before which of its system calls a command is killed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Few,
    /// Every one, or every n-th.
    Every(usize),
}

const RULES: &str = "\
-A -t 192.0.2.10:80 -s rr
-a -t 192.0.2.10:80 -r 198.51.100.1:80 -m -w 1
-a -t 192.0.2.10:80 -r 198.51.100.2:80 -m -w 2
-A -u 192.0.2.10:53 -s sh
-a -u 192.0.2.10:53 -r 198.51.100.3:53 -m -w 1
";

/// Rules that have a service less, one more, and one that is different.
const OTHERS: &str = "\
-A -t 192.0.2.10:80 -s mh
-a -t 192.0.2.10:80 -r 198.51.100.1:80 -m -w 5
-a -t 192.0.2.10:80 -r 198.51.100.4:80 -m -w 2
-A -t [2001:db8::10]:443 -s wlc -p 100
-a -t [2001:db8::10]:443 -r [2001:db8::1]:443 -m
";

/// What is there before a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// A data plane with `RULES`, attached to every device.
    Rules,
    /// As `Rules`, and a device has come up since.
    FreshDevice,
    /// As `Rules`, and after a command that changes something else.
    Command(&'static str),
    /// Nothing.
    Nothing,
}

/// A director with a device of a fixed index, whose commands are killed.
struct Director {
    namespace: Namespace,
    folder: PathBuf,
    /// Where its data plane is pinned.
    pins: PathBuf,
    /// What `save --full` prints of `Before::Rules`.
    rules: BTreeSet<String>,
    which: Which,
}

impl Director {
    fn new(which: Which) -> Self {
        let namespace = Namespace::new("director").unwrap();
        let folder = env::temp_dir().join(format!("lvs-killed-{}-{}", process::id(), namespace.name()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("others"), OTHERS).unwrap();
        fs::write(folder.join("rules"), RULES).unwrap();
        let mut director = Director { namespace, folder, pins: PathBuf::new(), rules: BTreeSet::new(), which };
        director.new_device();
        director.namespace.lvsadm(&format!("apply {}", director.file("rules"))).unwrap();
        director.pins = director.namespace.json("status --json").unwrap()["pins"].as_str().unwrap().into();
        director.rules = director.state();
        let full = director.namespace.lvsadm("save --full").unwrap();
        fs::write(director.folder.join("full"), full).unwrap();
        director
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// A device that was not there before.
    fn new_device(&self) {
        if self.namespace.ip(&["link del k0"]).is_ok() {
            // What is pinned of the old one goes.
            self.namespace.lvsadm("-Ln").unwrap();
        }
        self.namespace
            .ip(&["link add k0 index 77 type veth peer name k1 index 78", "link set k1 up", "link set k0 up"])
            .unwrap();
    }

    /// Everything that is configured, devices included, in no order; nothing if no data plane is loaded.
    fn state(&self) -> BTreeSet<String> {
        if !self.pins.as_os_str().is_empty() && !self.pins.exists() {
            return BTreeSet::new();
        }
        let state = self.namespace.lvsadm("save --full").unwrap();
        state.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    /// Names of all pins.
    fn pinned(&self) -> BTreeSet<String> {
        let names = |directory: &Path| -> Vec<String> {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        };
        let links = names(&self.pins.join("links")).into_iter().map(|name| format!("links/{name}"));
        // When it was loaded, and which generation it is, differs each time; XDP's program is there once a device has needed it.
        let is_lasting =
            |name: &String| !name.starts_with("since-") && !name.starts_with("generation-") && name != "lvs_xdp";
        let own = names(&self.pins).into_iter().filter(is_lasting);
        let all = own.chain(links);
        let name = self.pins.file_name().unwrap().to_string_lossy().into_owned();
        // Beside it: what a command makes before it takes its place.
        let beside = names(self.pins.parent().unwrap()).into_iter().filter(|other| {
            *other != name
                && other.split_once('-').map(|(_, cookie)| cookie) == name.split_once('-').map(|(_, cookie)| cookie)
        });
        all.chain(beside).collect()
    }

    fn prepare(&self, before: Before) {
        match before {
            Before::Command(command) => drop(self.namespace.lvsadm(command).unwrap()),
            Before::Nothing => drop(self.namespace.lvsadm("unload")),
            Before::FreshDevice => self.new_device(),
            Before::Rules => {
                if self.state() != self.rules {
                    self.namespace.lvsadm(&format!("apply {}", self.file("full"))).unwrap();
                }
                assert_eq!(self.state(), self.rules);
            }
        }
    }

    /// Runs a command, and kills it before a system call.
    fn run(&self, arguments: &[&str], input: Option<&str>, at: usize) -> End {
        let input = input.map(|name| File::open(self.folder.join(name)).unwrap());
        let is_agent = arguments == ["agent"];
        // The agent ends when it is asked to, once it has served the device.
        let served = || {
            fs::read_dir(self.pins.join("links")).is_ok_and(|mut links| {
                links.any(|link| link.is_ok_and(|link| link.file_name().to_string_lossy().ends_with("egress-77")))
            })
        };
        let started = |process: Pid| {
            if is_agent {
                while kill(process, None).is_ok() && !served() {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                let _ = kill(process, Signal::SIGTERM);
            }
        };
        killed::run(self.namespace.name(), &lvsadm_path(), arguments, input, at, started).unwrap()
    }

    /// Kills a command before its system calls, and checks what comes of each. The answer tells before how many.
    fn kill_everywhere(&self, before: Before, arguments: &str, input: Option<&str>) -> usize {
        let arguments = arguments.replace("FOLDER", &self.folder.display().to_string());
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let seen = || (self.state(), self.pinned());
        self.prepare(before);
        let old = match before {
            Before::Rules | Before::Command(_) | Before::Nothing => seen(),
            // Every command serves it.
            Before::FreshDevice => (self.rules.clone(), BTreeSet::new()),
        };
        let End::Ended(_, calls) = self.run(&arguments, input, usize::MAX) else { panic!("{arguments:?} was killed") };
        let new = seen();
        // A command that loads a data plane makes its rule after that.
        let is_rule = |line: &&String| before == Before::Nothing && line.starts_with("-A");
        let loaded: BTreeSet<String> = new.0.iter().filter(|line| !is_rule(line)).cloned().collect();
        let loads = before == Before::Nothing || new.0.is_empty() || matches!(arguments[0], "resize" | "upgrade");
        let every = match self.which {
            Which::Few => calls.div_ceil(if loads { SAMPLES_OF_LOADS } else { SAMPLES }).max(1),
            Which::Every(every) => every,
        };
        let mut tried = 0;
        for at in (0..calls).step_by(every) {
            self.prepare(before);
            let end = self.run(&arguments, input, at);
            // What was loaded for it once is there: the command has fewer calls than at first.
            let is_over = matches!(end, End::Ended(..));
            tried += usize::from(!is_over);
            let what = format!("{arguments:?}, killed before system call {at} of {calls} ({end:?})");
            // A reader is next, or a writer; on a plane that is not loaded a writer would load it.
            if self.pins.exists() {
                let next = ["-Ln", "-Z"][at / every % 2];
                self.namespace.lvsadm(next).unwrap_or_else(|error| panic!("{what}: {next}: {error}"));
            } else {
                let said = self.namespace.lvsadm("status").unwrap_err().to_string();
                assert!(said.contains("nothing is loaded"), "{what}: {said}");
            }
            let now = seen();
            assert!(
                [&old.0, &new.0, &loaded].contains(&&now.0),
                "{what}:\n{:#?}\nbefore:\n{:#?}\nafter:\n{:#?}",
                now.0,
                old.0,
                new.0
            );
            let wanted = if now.0 == old.0 && now.0 != new.0 { [&old.1, &old.1] } else { [&new.1, &old.1] };
            assert!(wanted.contains(&&now.1), "{what}: pins {:?}, not {:?}", now.1, wanted[0]);
            if is_over {
                break;
            }
        }
        eprintln!("{:<44} {calls:>6} system calls, killed before {tried:>6}", arguments.join(" "));
        tried
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Maps and programs that the kernel has.
fn kernel_objects() -> (usize, usize) {
    (aya::maps::loaded_maps().count(), aya::programs::loaded_programs().count())
}

/// Kills changes of rules: before how many system calls.
fn kill_changes_of_rules(which: Which) -> usize {
    let director = Director::new(which);
    let changes = [
        ("-A -t 192.0.2.10:81 -s wlc", None),
        ("-E -t 192.0.2.10:80 -s mh", None),
        ("-E -t 192.0.2.10:80 -s wrr -p 60", None),
        ("-D -t 192.0.2.10:80", None),
        ("-a -t 192.0.2.10:80 -r 198.51.100.9:80 -m", None),
        ("-e -u 192.0.2.10:53 -r 198.51.100.3:53 -m -w 7", None),
        ("-d -t 192.0.2.10:80 -r 198.51.100.2:80", None),
        ("-R", Some("others")),
        ("-C", None),
        ("-Z", None),
        ("--set 100 20 30", None),
        ("sysctl drop_entry=0 expire_nodest_conn=1", None),
        ("apply FOLDER/others", None),
        ("block 203.0.113.0/24 203.0.113.9", None),
        ("allow 203.0.113.9 -t 192.0.2.10:80", None),
        ("mark add --mark 7 --to 192.0.2.77", None),
        ("--add-laddr -t 192.0.2.10:80 -z 198.51.100.254", None),
        ("drain -t 192.0.2.10:80 -r 198.51.100.2:80", None),
        ("-Ln --stats", None),
        ("save --full", None),
        ("doctor --quiet", None),
    ];
    changes.iter().map(|(change, input)| director.kill_everywhere(Before::Rules, change, *input)).sum()
}

/// Kills changes of devices: before how many system calls.
fn kill_changes_of_devices(which: Which) -> usize {
    let director = Director::new(which);
    let (tc, native) = ("attach --dev k0 --mode tc", "attach --dev k0 --mode native");
    let changes = [(tc, "detach --dev k0"), (tc, native), (native, tc), ("detach --dev k0", tc)];
    let changed = changes.map(|(before, change)| director.kill_everywhere(Before::Command(before), change, None));
    // Nobody sees the old state: every command serves a device that has come up.
    let looked = ["-Ln", "-Z", "agent"].map(|look| director.kill_everywhere(Before::FreshDevice, look, None));
    changed.into_iter().chain(looked).sum()
}

/// Kills what loads and unloads a data plane, or puts another generation into its place: before how many system calls.
fn kill_loads(which: Which) -> usize {
    let before = kernel_objects();
    let director = Director::new(which);
    let tried = [
        director.kill_everywhere(Before::Rules, "upgrade", None),
        director.kill_everywhere(Before::Command("resize --conns 20000"), "resize --conns 50000", None),
    ];
    drop(director);
    let director = Director::new(which);
    let loads = [
        director.kill_everywhere(Before::Rules, "unload", None),
        director.kill_everywhere(Before::Nothing, "-A -t 192.0.2.10:81 -s wlc", None),
    ];
    drop(director);
    // Other tests load, too, unless this is all that runs.
    if which != Which::Few {
        tests::eventually("maps and programs are gone", || {
            let now = kernel_objects();
            now.0 <= before.0 && now.1 <= before.1
        });
    }
    tried.into_iter().chain(loads).sum()
}

#[test]
fn a_killed_change_of_rules_leaves_the_old_ones_or_the_new_ones() {
    kill_changes_of_rules(Which::Few);
}

#[test]
fn a_killed_change_of_devices_leaves_them_served_or_not() {
    kill_changes_of_devices(Which::Few);
}

#[test]
fn killed_while_it_loads_or_unloads_a_data_plane_is_whole_or_not_there() {
    kill_loads(Which::Few);
}

#[test]
#[ignore = "kills each command before each of its system calls, which takes an hour: run it alone, with --ignored --nocapture"]
fn killed_before_any_system_call_every_command_leaves_what_was_or_what_is_to_be() {
    let every = env::var("LVS_KILL_EVERY").ok().and_then(|every| every.parse().ok()).unwrap_or(1);
    let which = Which::Every(every);
    let tried = [kill_changes_of_rules(which), kill_changes_of_devices(which), kill_loads(which)];
    eprintln!("killed before {} system calls: rules, devices, loads {tried:?}", tried.iter().sum::<usize>());
}
