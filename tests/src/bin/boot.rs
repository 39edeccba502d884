//! `cargo xtask deb --check`: installs the packages in a fresh Debian in place of its own ipvsadm, boots that with systemd
//! as its first process as the director of a [`Cluster`], and balances requests through it; then saves, reloads, boots
//! again, and removes everything.
//!
//! All mounts are in a mount namespace of this program's own, and go with it.

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tests::eventually;
use tests::topology::{Cluster, Layout, Namespace, VIP};

/// The release that is installed.
const RELEASE: &str = "bookworm";
/// What of it beyond the least.
const SYSTEM: &str = "systemd-sysv,dbus,iproute2,init-system-helpers";
/// What the packages replace or serve.
const NEIGHBOURS: [&str; 3] = ["ipvsadm", "ldirectord", "keepalived"];

/// A service whose real server needs no check.
const KEEPALIVED: &str = "
virtual_server 10.10.10.10 53 {
    lvs_sched rr
    lvs_method NAT
    protocol UDP
    real_server 192.168.122.101 53 {
        weight 1
    }
}
";

/// Makes a folder the root of a container, and its init the process. The folders of the kernel are the container's own.
const INIT: &str = r#"
set -e
root=$1
mount --bind "$root" "$root"
cd "$root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
    touch dev/$device
    mount --bind /dev/$device dev/$device
done
ln -s /proc/self/fd dev/fd
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
pivot_root . mnt
umount -l /mnt
exec env -i container=lvst PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd systemd.unified_cgroup_hierarchy=1
"#;

fn main() -> ExitCode {
    match check() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("boot: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn check() -> Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [folder, packages @ ..] = &*arguments else { anyhow::bail!("usage: boot FOLDER PACKAGE…") };
    let cluster = Cluster::new(Layout { servers: 2, ..Layout::default() })?;
    cluster.director.sysctl(&["net/ipv4/ip_forward=1"])?;
    // After the namespaces: they are everybody's to see, what follows is not.
    unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none).context("cannot make mounts private")?;
    let root = fresh_root(folder)?;

    install(&root, packages)?;
    first_boot(&cluster, &root)?;
    second_boot(&cluster, &root)?;
    println!("installed, booted twice, removed: all as it should be");
    Ok(())
}

/// A Debian just installed, that may be written to: what is written goes with this program's mounts.
fn fresh_root(folder: &Path) -> Result<PathBuf> {
    let (base, root) = (folder.join(RELEASE), folder.join("root"));
    if !base.exists() {
        step(&format!("installing Debian {RELEASE} (a minute, once)"));
        let draft = folder.join(format!("{RELEASE}.draft"));
        run(Command::new("rm").arg("-rf").arg(&draft))?;
        let log = File::create(folder.join("debootstrap.log"))?;
        let include = format!("--include={SYSTEM}");
        run(Command::new("debootstrap")
            .args(["--variant=minbase", &include, RELEASE])
            .arg(&draft)
            .stdout(log.try_clone()?))?;
        // Nothing of what is installed is to run now.
        let policy = draft.join("usr/sbin/policy-rc.d");
        fs::write(&policy, "#!/bin/sh\nexit 101\n")?;
        fs::set_permissions(&policy, Permissions::from_mode(0o755))?;
        let install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends"];
        let environment = ("DEBIAN_FRONTEND", "noninteractive");
        run(Command::new("chroot").arg(&draft).args(install).args(NEIGHBOURS).envs([environment]).stdout(log))?;
        fs::remove_file(policy)?;
        fs::rename(&draft, &base)?;
    }
    fs::create_dir_all(&root)?;
    let none: Option<&str> = None;
    mount(Some("tmpfs"), &root, Some("tmpfs"), MsFlags::empty(), none).context("cannot mount a tmpfs")?;
    let [upper, work, merged] = ["upper", "work", "merged"].map(|name| root.join(name));
    for folder in [&upper, &work, &merged] {
        fs::create_dir(folder)?;
        fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    }
    let options = format!("lowerdir={},upperdir={},workdir={}", base.display(), upper.display(), work.display());
    mount(Some("overlay"), &merged, Some("overlay"), MsFlags::empty(), Some(&*options))
        .context("cannot mount an overlay")?;
    Ok(merged)
}

/// Installs the packages in place of Debian's ipvsadm, which was set up to restore rules at boot.
fn install(root: &Path, packages: &[PathBuf]) -> Result<()> {
    step("installing the packages in place of Debian's ipvsadm");
    ensure!(!is_link(root, "sbin/ipvsadm"), "Debian's ipvsadm is not there to be replaced");
    for path in ["dev/null", "dev/urandom"] {
        let place = root.join(path);
        if !place.exists() {
            File::create(&place)?;
        }
        let none: Option<&str> = None;
        mount(Some(&*Path::new("/").join(path)), &place, none, MsFlags::MS_BIND, none)?;
    }
    let mut dpkg = Command::new("chroot");
    dpkg.arg(root).args(["dpkg", "--install"]);
    for package in packages {
        let name = package.file_name().context("a package has a name")?;
        fs::copy(package, root.join("tmp").join(name))?;
        dpkg.arg(Path::new("/tmp").join(name));
    }
    run(dpkg.env("DEBIAN_FRONTEND", "noninteractive"))?;
    ensure!(is_link(root, "sbin/ipvsadm") && is_link(root, "sbin/ipvsadm-restore"), "ipvsadm's names are not links");
    // Its example of a configuration is nobody's.
    run(Command::new("chroot").arg(root).args(["systemctl", "disable", "--quiet", "ldirectord.service"]))?;
    write(root, "etc/default/ipvsadm", "AUTO=\"true\"\nDAEMON=\"none\"\n")?;
    let rules = "# saved\n-A -t 10.10.10.10:80 -s rr\n-a -t 10.10.10.10:80 -r 192.168.122.101:80 -m -w 1\n";
    write(root, "etc/ipvsadm.rules", rules)
}

/// ipvsadm's rules are restored; reloading changes what changed; stopping saves.
fn first_boot(cluster: &Cluster, root: &Path) -> Result<()> {
    step("booting with ipvsadm's rules");
    let service = SocketAddr::new(VIP, 80);
    let host = Host::boot(&cluster.director, root)?;
    host.is_active(&["lvsadm.service", "ipvsadm.service", "lvsadm-agent.service", "run-lvs-bpf.mount"])?;
    let status = host.run("lvsadm status")?;
    ensure!(status.contains("agent: it serves devices"), "the agent watches nothing: {status}");
    let help = host.run("ipvsadm -h")?;
    ensure!(help.starts_with("ipvsadm v1.31 2019/12/24") && help.contains("  ipvsadm -C\n"), "ipvsadm -h says {help}");
    host.lists(&["192.168.122.101:80"])?;
    let answer = cluster.client().get(service, "/")?;
    ensure!(answer.starts_with("rs1 "), "the client hears `{answer}'");
    println!("    client: {}", answer.trim());

    step("reloading with a real server more, as ipvsadm.service");
    let more = "-a -t 10.10.10.10:80 -r 192.168.122.102:80 -m -w 1 # the other one\n";
    let rules = fs::read_to_string(root.join("etc/ipvsadm.rules"))?;
    write(root, "etc/ipvsadm.rules", &(rules + more))?;
    host.run("systemctl reload ipvsadm.service")?;
    host.lists(&["192.168.122.101:80", "192.168.122.102:80"])?;
    ensure!(cluster.client().spread(service, 4)?.len() == 2, "the second real server gets nothing");

    step("restarting under a connection");
    let mut stream = cluster.client.enter(|| Ok(TcpStream::connect(service)?))?;
    let before = request(&mut stream)?;
    host.run("systemctl restart lvsadm.service")?;
    let after = request(&mut stream).context("the connection did not outlive a restart")?;
    ensure!(before == after, "another real server goes on with the connection: {before} and {after}");

    step("being a real server");
    write(root, "etc/default/lvsadm-real-server", "REAL_SERVER=\"--tun --vip 10.10.10.30 --toa --trust 192.0.2.1\"\n")?;
    host.run("systemctl start lvsadm-real-server.service")?;
    ensure!(host.run("ip -brief address show lo")?.contains("10.10.10.30/32"), "lo has not the address");
    let status = host.run("lvsadm real-server --status")?;
    ensure!(status.contains("192.0.2.1/32") && !status.contains("("), "not all is set up: {status}");
    host.run("systemctl stop lvsadm-real-server.service")?;
    ensure!(!host.run("ip -brief address show lo")?.contains("10.10.10.30"), "lo still has the address");

    step("stopping, which saves as asked");
    write(root, "etc/default/lvsadm", "LVS_SAVE_ON_STOP=yes\n")?;
    host.run("lvsadm -e -t 10.10.10.10:80 -r 192.168.122.102:80 -m -w 5 -x 1000 -y 500")?;
    host.run("systemctl stop lvsadm.service")?;
    host.lists(&[])?;
    for unit in ["lvsadm.service", "lvsadm-agent.service"] {
        let rating = host.run(&format!("systemd-analyze security --no-pager {unit}"))?;
        println!("{unit}: {}", rating.lines().last().unwrap_or_default());
    }
    host.power_off()
}

/// What was saved is restored; removing the packages leaves nothing.
fn second_boot(cluster: &Cluster, root: &Path) -> Result<()> {
    step("booting with what was saved");
    let saved = fs::read_to_string(root.join("etc/lvsadm.rules"))?;
    let host = Host::boot(&cluster.director, root)?;
    host.lists(&["192.168.122.101:80", "192.168.122.102:80"])?;
    let thresholds = host.run("lvsadm -Ln --thresholds")?;
    let row = thresholds.lines().find(|line| line.contains("192.168.122.102")).unwrap_or_default();
    let numbers: Vec<&str> = row.split_whitespace().skip(2).take(2).collect();
    ensure!(numbers == ["1000", "500"], "thresholds were not kept: {thresholds}\n{saved}");

    step("keepalived.service, by the drop-in");
    write(root, "etc/keepalived/keepalived.conf", KEEPALIVED)?;
    host.run("systemctl start keepalived.service")?;
    let listed = || host.run("ipvsadm -Ln -u 10.10.10.10:53").unwrap_or_default();
    eventually("keepalived's service", || listed().contains("192.168.122.101:53"));
    host.run("systemctl stop keepalived.service")?;
    ensure!(listed().is_empty(), "keepalived left {}", listed());

    step("removing the packages");
    host.run("dpkg --purge ldirectord ipvsadm-is-lvsadm lvsadm")?;
    ensure!(host.run("ip -details link show eth0").is_ok_and(|text| !text.contains("xdp")), "XDP is left on eth0");
    for left in ["usr/sbin/lvsadm", "sbin/ipvsadm", "etc/default/lvsadm"] {
        ensure!(!root.join(left).exists(), "{left} is left");
    }
    let pins = host.run("ls /run/lvs/bpf")?;
    ensure!(!pins.lines().any(|name| name.starts_with("ns-")), "pins are left: {pins}");
    host.power_off()
}

/// A booted system.
struct Host {
    init: Child,
    group: PathBuf,
}

impl Host {
    /// Boots a root folder in a network namespace, and waits until it is up.
    fn boot(network: &Namespace, root: &Path) -> Result<Self> {
        // systemd wants a cgroup (of version 2) of its own.
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let groups = mounts.lines().find_map(|line| {
            line.split(' ').skip(1).zip(line.split(' ').skip(2)).next().filter(|(_, kind)| *kind == "cgroup2")
        });
        let group = Path::new(groups.context("this machine has no cgroup2 mounted")?.0).join(network.name());
        fs::create_dir(&group).with_context(|| format!("cannot make {}", group.display()))?;
        let enter = "echo $$ > \"$0/cgroup.procs\" && exec unshare --pid --fork --kill-child --mount --uts --ipc --cgroup sh -c \"$2\" init \"$1\"";
        let log = File::create(root.ancestors().nth(2).context("a root below a folder")?.join("boot.log"))?;
        // Not by `ip netns exec`, whose /sys has no cgroups.
        let init = network.enter(|| {
            let mut shell = Command::new("sh");
            shell.args(["-c", enter]).args([&group, root]).arg(INIT);
            Ok(shell.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?)
        })?;
        let host = Host { init, group };
        let state = || host.run("systemctl show --property=SystemState --value").unwrap_or_default();
        eventually("systemd is up", || matches!(state().trim_end(), "running" | "degraded"));
        let failed = host.run("systemctl --failed --plain --no-legend")?;
        ensure!(failed.is_empty(), "failed: {failed}{}", host.run("journalctl --no-pager --boot --priority notice")?);
        Ok(host)
    }

    /// The init's process: the only child of `unshare`.
    fn first_process(&self) -> Result<String> {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.init.id()))?;
        Ok(children.split_whitespace().next().context("nothing runs in the container")?.to_owned())
    }

    /// Runs a command line (split at spaces) in it and returns its standard output.
    fn run(&self, line: &str) -> Result<String> {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--all", "--target", &self.first_process()?, "--"]).args(line.split(' '));
        nsenter.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        output(&mut nsenter).with_context(|| line.to_owned())
    }

    fn is_active(&self, units: &[&str]) -> Result<()> {
        for unit in units {
            self.run(&format!("systemctl is-active {unit}")).with_context(|| {
                let status = self.run(&format!("systemctl status --no-pager --lines 50 {unit}"));
                format!("{unit} is not active: {status:?}")
            })?;
        }
        Ok(())
    }

    /// Whether these real servers, and no others, are listed.
    fn lists(&self, expected: &[&str]) -> Result<()> {
        let listing = self.run("ipvsadm -Ln")?;
        let rows = listing.lines().skip(3).filter_map(|line| line.trim_start().strip_prefix("-> "));
        let listed: Vec<&str> = rows.filter_map(|row| row.split_whitespace().next()).collect();
        ensure!(listed == expected, "instead of {expected:?}:\n{listing}");
        Ok(())
    }

    /// Shuts it down and waits for that.
    fn power_off(mut self) -> Result<()> {
        self.run("systemctl --no-block poweroff")?;
        self.init.wait()?;
        Ok(())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Already gone is as good. With `unshare` goes the init, and with that everything.
        let _ = self.init.kill();
        let _ = self.init.wait();
        // A group can be removed when all that was killed is gone.
        let removed = (0..50).any(|_| {
            thread::sleep(Duration::from_millis(100));
            remove_groups(&self.group).is_ok()
        });
        if !removed {
            eprintln!("{} is left", self.group.display());
        }
    }
}

/// Removes a cgroup with all below it, which are empty.
fn remove_groups(group: &Path) -> Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_groups(&entry.path())?;
        }
    }
    Ok(fs::remove_dir(group)?)
}

/// Asks over a connection that stays, and returns the line that answers.
fn request(stream: &mut TcpStream) -> Result<String> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: vip\r\n\r\n")?;
    let mut lines = BufReader::new(stream).lines();
    // Status, server, length, and an empty line come before.
    lines.nth(4).context("no answer")?.context("no answer")
}

fn step(what: &str) {
    println!("==> {what}");
}

fn is_link(root: &Path, path: &str) -> bool {
    root.join(path).is_symlink()
}

fn write(root: &Path, path: &str, text: &str) -> Result<()> {
    fs::write(root.join(path), text).with_context(|| format!("cannot write {path}"))
}

/// Runs it to its end; failing is an error.
fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?} failed ({status})");
    Ok(())
}

/// Runs it for its standard output; failing is an error that says what it said.
fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed ({}): {text}{said}", output.status);
    Ok(text)
}
