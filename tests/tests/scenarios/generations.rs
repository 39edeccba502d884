//! Another generation of the data plane takes over under load: `lvsadm resize`, `lvsadm upgrade`.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::generations::{NATIVE, TC, nothing_is_lost};
use tests::topology::{Cluster, lvsadm_path};

#[test]
fn tables_grow_and_shrink_in_xdp_and_no_connection_is_lost() {
    nothing_is_lost(NATIVE, resized).unwrap();
}

#[test]
fn tables_grow_and_shrink_in_tc_and_no_connection_is_lost() {
    nothing_is_lost(TC, resized).unwrap();
}

fn resized(cluster: &Cluster, turn: usize) -> Result<()> {
    let told = cluster.director.lvsadm(&format!("resize --conns {}", [60_000, 40_000, 120_000][turn % 3]))?;
    ensure!(told.contains(" 0 lost"), "{told}");
    Ok(())
}

#[test]
fn room_for_services_and_destinations_grows_and_shrinks_and_no_connection_is_lost() {
    nothing_is_lost(TC, |cluster, turn| {
        let director = &cluster.director;
        if turn == 0 {
            // A scheduler with a table, and one with a roster.
            for (service, scheduler, servers) in [("10.10.10.10:8080", "mh", 3), ("10.10.10.10:8081", "wlc", 40)] {
                director.lvsadm(&format!("-A -t {service} -s {scheduler}"))?;
                for server in 1..=servers {
                    director.lvsadm(&format!("-a -t {service} -r 192.0.2.{server}:80 -g"))?;
                }
            }
        }
        let rules = director.lvsadm("save --full")?;
        let sizes = [(500, 1000, "--conns 30000"), (9000, 20000, ""), (60, 90, ""), (65535, 131071, "--conns 50000")];
        let (services, destinations, conns) = sizes[turn % sizes.len()];
        director.lvsadm(&format!("resize --services {services} --destinations {destinations} {conns}"))?;
        let tables = &director.json("status --json")?["tables"];
        let room = [tables["services"].as_u64(), tables["destinations"].as_u64()];
        ensure!(room == [Some(services), Some(destinations)], "{tables}");
        let after = director.lvsadm("save --full")?;
        let without_sizes =
            |text: &str| text.lines().filter(|line| !line.starts_with("attach")).map(str::to_owned).collect::<Vec<_>>();
        ensure!(without_sizes(&after) == without_sizes(&rules), "{rules} became {after}");
        // New rules go where there is room now.
        let rule = format!("-t 10.10.10.10:{}", 9000 + turn);
        director.lvsadm(&format!("-A {rule} -s mh"))?;
        director.lvsadm(&format!("-a {rule} -r 192.0.2.1:80 -g"))?;
        let refused =
            director.lvsadm("resize --destinations 40").err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(refused.contains("--destinations 40 is too few"), "not refused: {refused}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn programs_are_replaced_and_no_connection_is_lost() {
    for tier in [NATIVE, TC] {
        nothing_is_lost(tier, |cluster, _| cluster.director.lvsadm("upgrade").map(drop)).unwrap();
    }
}

#[test]
fn a_change_whose_command_is_killed_is_finished_or_taken_back() {
    nothing_is_lost(NATIVE, |cluster, turn| {
        // From before the new maps to after the last connection.
        for step in 0..6 {
            let size = [60_000, 120_000][step % 2].to_string();
            let mut resize = cluster.director.command(lvsadm_path()).args(["resize", "--conns", &size]).spawn()?;
            thread::sleep(Duration::from_millis(150 * step as u64 + 40 * turn as u64));
            resize.kill()?;
            resize.wait()?;
            // The next command goes on from there.
            cluster.director.lvsadm("-Ln")?;
        }
        let status = cluster.director.json("status --json")?;
        let place = status["pins"].as_str().context("no pins")?;
        ensure!(!std::path::Path::new(&place.replace("/ns-", "/next-")).exists(), "two generations are left");
        Ok(())
    })
    .unwrap();
}
