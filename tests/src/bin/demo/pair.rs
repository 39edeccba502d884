//! A pair of directors under keepalived: one of them loses its power while a client downloads.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use tests::eventually;
use tests::topology::{Failure, Member, Pair, Site, VIP};

use crate::download::Download;

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

    let mut download = Download::begin(&pair.cluster.client, SocketAddr::new(VIP, 80))?;
    download.watch(Duration::from_secs(3), || place(&pair))?;
    println!("\n\x1b[1mfirst: its power fails\x1b[0m");
    pair.fail(Failure::Power)?;
    download.watch(Duration::from_secs(3), || place(&pair))?;
    director(&pair, Member::Second, "-Lcn")?;
    println!("\x1b[1mfirst: boots\x1b[0m");
    pair.repair(Failure::Power)?;
    download.watch(Duration::from_secs(60), || place(&pair))?;
    settle(&pair, Member::First, Member::Second);

    download.end()
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

/// Which director has the virtual address.
fn place(pair: &Pair) -> String {
    let active = Member::BOTH.into_iter().find(|member| has_address(pair, *member));
    format!("{VIP} is at: {}", active.map_or("nobody", name))
}

/// Whether a director has the virtual address, and a device that it can be reached by.
fn has_address(pair: &Pair, member: Member) -> bool {
    let addresses = pair.director(member).run("ip -oneline address show dev eth0").unwrap_or_default();
    addresses.contains(&format!("{VIP}/"))
}
