//! A pair of directors under keepalived: one of them loses its power while a client downloads.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::topology::{Failure, Member, Pair, Site, VIP};
use tests::{eventually, text};

/// Bytes of the download, and how many of them wget takes in a second.
const LENGTH: usize = 20_000_000;
const RATE: &str = "1M";
/// From one look at the download to the next one.
const LOOKS: Duration = Duration::from_millis(500);

/// keepalived's virtual server.
const VIRTUAL_SERVER: &str = "virtual_server 10.10.10.10 80 {
    lvs_sched rr
    lvs_method NAT
    protocol TCP
    real_server 192.168.122.101 80 {
    }
    real_server 192.168.122.102 80 {
    }
}
";

/// A download by wget.
struct Download {
    wget: Child,
    file: PathBuf,
}

impl Download {
    fn begin(pair: &Pair, file: PathBuf) -> Result<Self> {
        let url = format!("http://{}/bytes/{LENGTH}", SocketAddr::new(VIP, 80));
        println!("client$ wget --limit-rate={RATE} --output-document=download {url}");
        let mut wget = pair.cluster.client.command("wget");
        wget.args(["--quiet", &format!("--limit-rate={RATE}"), &url, "--output-document"]).arg(&file);
        Ok(Download { wget: wget.stdin(Stdio::null()).spawn()?, file })
    }

    /// How many bytes have come.
    fn length(&self) -> u64 {
        fs::metadata(&self.file).map_or(0, |file| file.len())
    }

    /// Shows how it goes on, for so long or to its end.
    fn watch(&mut self, pair: &Pair, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end && self.wget.try_wait()?.is_none() {
            sleep(LOOKS);
            let active = Member::BOTH.into_iter().find(|member| has_address(pair, *member));
            let active = active.map_or("nobody", name);
            println!(
                "  {:>5.1} of {:.1} MB     {VIP} is at: {active}",
                megabytes(self.length()),
                megabytes(LENGTH as u64)
            );
        }
        Ok(())
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        // Ended already is as good.
        let _ = self.wget.kill();
        let _ = self.wget.wait();
        let _ = fs::remove_file(&self.file);
    }
}

/// Shows it.
pub fn show() -> Result<()> {
    println!("\n\x1b[1m━━━ A pair ━━━\x1b[0m");
    println!(
        "Two directors under keepalived. The active one sends its connections to the other one, which goes on with them.\n"
    );
    let mut pair = Pair::new(Site::BehindDirector, &[], VIRTUAL_SERVER)?;
    println!("first# cat /etc/keepalived/keepalived.conf     (second: priority 100)");
    pair.keepalived_configuration(Member::First)?.lines().for_each(|line| println!("  {line}"));
    println!("\nfirst, second# keepalived");
    settle(&pair, Member::First, Member::Second);
    let client = pair.cluster.client();
    eventually("a first answer", || client.get(SocketAddr::new(VIP, 80), "/").is_ok());
    for member in Member::BOTH {
        director(&pair, member, "-L --daemon")?;
    }

    let file = std::env::temp_dir().join(format!("{}-download", pair.cluster.client.name()));
    let mut download = Download::begin(&pair, file)?;
    download.watch(&pair, Duration::from_secs(3))?;
    println!("\n\x1b[1mfirst: its power fails\x1b[0m");
    pair.fail(Failure::Power)?;
    download.watch(&pair, Duration::from_secs(3))?;
    director(&pair, Member::Second, "-Lcn")?;
    println!("\x1b[1mfirst: boots\x1b[0m");
    pair.repair(Failure::Power)?;
    download.watch(&pair, Duration::from_secs(60))?;
    settle(&pair, Member::First, Member::Second);

    ensure!(download.wget.wait()?.success(), "the download failed");
    let (came, sent) = (checksum(&download.file)?, checksum_of(&text(LENGTH))?);
    println!("\nclient$ sha256sum download\n  {came}\nrs1$ sha256sum (what was to be sent)\n  {sent}");
    ensure!(came == sent, "the download is not what the real server sent");
    println!("The download is what the real server sent, byte by byte.");
    Ok(())
}

/// Waits until each director runs its daemon.
fn settle(pair: &Pair, master: Member, backup: Member) {
    eventually("the daemons follow keepalived", || pair.runs(master, "master") && pair.runs(backup, "backup"));
}

/// A director's name.
fn name(member: Member) -> &'static str {
    match member {
        Member::First => "first",
        Member::Second => "second",
    }
}

/// Shows and runs a command of a director's.
fn director(pair: &Pair, member: Member, arguments: &str) -> Result<()> {
    println!("{}# lvsadm {arguments}", name(member));
    pair.director(member).lvsadm(arguments)?.lines().for_each(|line| println!("  {line}"));
    println!();
    Ok(())
}

/// Whether a director has the virtual address, and a device that it can be reached by.
fn has_address(pair: &Pair, member: Member) -> bool {
    let addresses = pair.director(member).run("ip -oneline address show dev eth0").unwrap_or_default();
    addresses.contains(&format!("{VIP}/"))
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// What `sha256sum` says of a file.
fn checksum(file: &std::path::Path) -> Result<String> {
    let output = Command::new("sha256sum").arg(file).output().context("cannot run sha256sum")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.split_whitespace().next().map(str::to_owned).context("sha256sum says nothing")
}

/// The same of bytes.
fn checksum_of(bytes: &[u8]) -> Result<String> {
    let file = std::env::temp_dir().join(format!("lvst-{}-sent", std::process::id()));
    fs::write(&file, bytes)?;
    let checksum = checksum(&file);
    fs::remove_file(&file)?;
    checksum
}
