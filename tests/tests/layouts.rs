//! The data plane goes from one build to another whose maps have another layout, and back, under load. These tests count as ignored
//! without the second lvsadm that `cargo xtask other-layout` builds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use tests::balanced::Tier;
use tests::generations::{NATIVE, TC, nothing_is_lost};
use tests::killed::{self, End};
use tests::topology::{Cluster, Namespace, lvsadm_path};

/// Where the other lvsadm is.
fn other() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/other-layout/debug/lvsadm")
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let is_there = other().is_file();
    let trial = |name: &str, test: fn() -> Result<()>| {
        Trial::test(name, move || test().map_err(|error| Failed::from(format!("{error:#}"))))
            .with_ignored_flag(!is_there)
    };
    let trials = vec![
        trial("no_connection_is_lost_in_xdp", || goes_and_comes(NATIVE)),
        trial("no_connection_is_lost_in_tc", || goes_and_comes(TC)),
        trial("a_killed_upgrade_is_finished_or_taken_back", killed),
        trial("the_packages_hook_moves_the_plane_and_starts_daemons_again", packaged),
        trial("an_upgrade_that_is_refused_changes_nothing", refused),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Runs a build's lvsadm with these arguments (split at spaces).
fn run(host: &Namespace, build: &Path, arguments: &str) -> Result<String> {
    host.run(&format!("{} {arguments}", build.display()))
}

/// What `status` says of a build's data plane: layout and generation.
fn layout(host: &Namespace, build: &Path) -> Result<(String, u64)> {
    let status: serde_json::Value = serde_json::from_str(&run(host, build, "status --json")?)?;
    let layout = status["layout"].as_str().context("no layout")?.to_owned();
    Ok((layout, status["generation"].as_u64().context("no generation")?))
}

/// The builds before and after a change, from one to the other and back.
fn builds(turn: usize) -> (PathBuf, PathBuf) {
    if turn.is_multiple_of(2) { (lvsadm_path(), other()) } else { (other(), lvsadm_path()) }
}

/// Rules of the kinds that the load does not use.
const RULES: [&str; 10] = [
    "-A -t 10.10.10.10:8080 -s sh",
    "-a -t 10.10.10.10:8080 -r 192.168.122.101:80 -m -w 3",
    "-a -t 10.10.10.10:8080 -r 192.168.122.102:80 -m -x 100 -y 50",
    "-A -f 7 -s mh -p 60",
    "-A -t [2001:db8::10]:8000 -s wrr",
    "-a -t [2001:db8::10]:8000 -r [2001:db8::1]:80 -i --tun-type gre",
    "mark add --mark 7 --to 10.10.10.0/24 --protocol tcp --dport 9000-9010",
    "block 203.0.113.0/24 2001:db8:1::/48",
    "allow 198.18.0.0/15 -t 10.10.10.10:8080",
    "sysctl conn_reuse_mode=0 expire_nodest_conn=1",
];

/// What a build's listing has of counters: connections and packets of each service, and the greatest rate of connections.
fn counted(host: &Namespace, build: &Path) -> Result<(Vec<[u64; 2]>, u64)> {
    let list = |arguments: &str| -> Result<Vec<serde_json::Value>> {
        Ok(serde_json::from_str(&run(host, build, arguments)?)?)
    };
    let number = |value: &serde_json::Value| value.as_u64().context("no number");
    let mut counts = Vec::new();
    for service in list("-L --stats --json")? {
        let statistics = &service["statistics"];
        counts.push([number(&statistics["connections"])?, number(&statistics["in_packets"])?]);
    }
    let rates = list("-L --rate --json")?;
    let rates = rates.iter().map(|service| number(&service["rates"]["connections"]));
    Ok((counts, rates.collect::<Result<Vec<_>>>()?.into_iter().max().unwrap_or_default()))
}

/// Packets by exit, as a build counts them.
fn exits(host: &Namespace, build: &Path) -> Result<BTreeMap<String, u64>> {
    let status: serde_json::Value = serde_json::from_str(&run(host, build, "status --json")?)?;
    let packets = status["packets"].as_array().context("no exits")?;
    let exit = |it: &serde_json::Value| Some((it["exit"].as_str()?.to_owned(), it["packets"].as_u64()?));
    packets.iter().map(|it| exit(it).context("no exit")).collect()
}

fn goes_and_comes(tier: Tier) -> Result<()> {
    nothing_is_lost(tier, |cluster: &Cluster, turn| {
        let (before, after) = builds(turn);
        let host = &cluster.director;
        for rule in RULES.iter().filter(|_| turn == 0) {
            run(host, &before, rule)?;
        }
        let ((counts, _), packets) = (counted(host, &before)?, exits(host, &before)?);
        let (old, generation) = layout(host, &before)?;
        let rules = run(host, &before, "save --full")?;
        let refused = run(host, &after, "-Ln").err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(refused.contains("`lvsadm upgrade` moves it"), "not refused: {refused}");
        let told = run(host, &after, "upgrade")?;
        ensure!(told.contains(" 0 lost") && !told.starts_with("0 "), "{told}");
        let (new, next) = layout(host, &after)?;
        ensure!(old != new && next == generation + 1, "{old} {generation}, {new} {next}");
        let moved = run(host, &after, "save --full")?;
        ensure!(moved == rules, "{rules}became {moved}");
        let (later, rate) = counted(host, &after)?;
        let is_later = counts.iter().flatten().zip(later.iter().flatten()).all(|(before, after)| before <= after);
        ensure!(is_later && later.len() == counts.len(), "{counts:?} became {later:?}");
        let now = exits(host, &after)?;
        let is_later = |(exit, count): (&String, &u64)| now.get(exit).is_some_and(|now| now >= count);
        ensure!(packets.iter().all(is_later), "{packets:?} became {now:?}");
        ensure!(rate < 100_000, "{rate} connections a second");
        Ok(())
    })
}

/// What the packages run after another version was unpacked.
const HOOK: &str = "mount -t tmpfs none /run/systemd 2>/dev/null; exec sh \"$0\" configure 0.0.1";

fn packaged() -> Result<()> {
    let host = Namespace::new("host")?;
    // A device without Ethernet headers has programs of its own.
    host.ip(&["link add eth0 type veth peer name peer0", "link set eth0 up", "link set peer0 up"])?;
    host.ip(&["tuntap add tun0 mode tun", "link set tun0 up"])?;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hook");
    std::fs::create_dir_all(&folder)?;
    // Nothing but the first call is the fixture's, which remembers to unload.
    host.lvsadm("-A -t 10.10.10.10:80 -s rr")?;
    for role in ["master", "backup"] {
        host.lvsadm(&format!("--start-daemon {role} --mcast-interface eth0 --syncid 9"))?;
    }
    for turn in 0..2 {
        let (before, after) = builds(turn);
        let (rules, daemons) = (run(&host, &before, "-Sn")?, run(&host, &before, "-L --daemon")?);
        let name = folder.join("lvsadm");
        let _ = std::fs::remove_file(&name);
        std::os::unix::fs::symlink(&after, &name)?;
        let path = format!("PATH={}:/usr/sbin:/usr/bin:/sbin:/bin", folder.display());
        let hook = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/lvsadm/postinst");
        let output = host.command("env").args([&path, "sh", "-c", HOOK]).arg(hook).output()?;
        ensure!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        ensure!(run(&host, &after, "-Sn")? == rules, "other rules");
        ensure!(
            run(&host, &after, "status")?.lines().any(|line| line.starts_with("tun0") && line.contains(" tc ")),
            "tun0 is not served"
        );
        let now = run(&host, &after, "-L --daemon")?;
        ensure!(now == daemons && now.lines().count() == 2, "{daemons}became {now}");
    }
    host.lvsadm("--stop-daemon master").and(host.lvsadm("--stop-daemon backup")).map(drop)
}

/// The other build is not allowed to open enough files: the data plane serves on.
fn refused() -> Result<()> {
    let host = Namespace::new("host")?;
    host.lvsadm("-A -t 10.10.10.10:80 -s rr")?;
    let (rules, old) = (host.lvsadm("save --full")?, layout(&host, &lvsadm_path())?);
    let mut limited = host.command("prlimit");
    let output = limited.args(["--nofile=20", "--"]).arg(other()).arg("upgrade").output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(2) && said.starts_with("lvsadm: ") && said.lines().count() == 1, "{output:?}");
    ensure!(host.lvsadm("save --full")? == rules && layout(&host, &lvsadm_path())? == old);
    Ok(())
}

/// Where an upgrade is killed in each turn: before a system call, counted in hundredths of all. Connections are asked after each turn, and
/// servers wait half a minute for them.
const KILLS: [[usize; 2]; 4] = [[10, 92], [60, 99], [80, 95], [86, 97]];

fn killed() -> Result<()> {
    nothing_is_lost(NATIVE, |cluster, turn| {
        let (before, after) = builds(turn);
        let host = &cluster.director;
        let upgrade = |at| killed::run(host.name(), &after, &["upgrade"], None, at, |_| {});
        let End::Ended(0, calls) = upgrade(usize::MAX)? else { bail!("an upgrade by itself fails") };
        run(host, &before, "upgrade")?;
        let mut finished = 0;
        for part in KILLS[turn] {
            ensure!(upgrade(calls * part / 100)? == End::Killed, "it was not killed");
            // The next command finishes it, or takes it back.
            if run(host, &after, "-Ln").is_ok() {
                finished += 1;
                run(host, &before, "upgrade")?;
            } else {
                run(host, &before, "-Ln")?;
            }
        }
        eprintln!("{calls} system calls; of {} upgrades that were killed {finished} were finished", KILLS[turn].len());
        let pins = run(host, &before, "status --json")?;
        let pins = serde_json::from_str::<serde_json::Value>(&pins)?["pins"].as_str().context("no pins")?.to_owned();
        ensure!(!Path::new(&pins.replace("/ns-", "/next-")).exists(), "two generations are left");
        let left = std::fs::read_dir(&pins)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let left: Vec<String> = left.filter(|name| name.starts_with("SEEN_") || name == "moving").collect();
        ensure!(left.is_empty(), "{left:?} are left");
        run(host, &after, "upgrade")?;
        Ok(())
    })
}
