//! A director whose devices are of drivers, not veth: each mode in both families, by each tier that the driver has. These tests count as
//! ignored where there are no such devices; a guest of `cargo xtask test --kernel` has them.

use std::process::ExitCode;
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use tests::balanced::{Balanced, DR, FULLNAT_TOA, IPIP, Mode, NAT, Tier};
use tests::topology::{Arms, Driver, Offloads};

/// By name.
const MODES: [(&str, Mode); 4] =
    [("nat", NAT), ("direct_routing", DR), ("tunnel_ipip", IPIP), ("fullnat_with_toa", FULLNAT_TOA)];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    for driver in Driver::ALL {
        let is_here = driver.is_here();
        for (name, mode) in MODES {
            let check = move || check(driver, mode).map_err(|error| Failed::from(format!("{error:#}")));
            let trial = Trial::test(format!("nics::{}::{name}", driver.name()), check);
            trials.push(if is_here { trial } else { trial.with_kind("no such devices").with_ignored_flag(true) });
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Tiers of a driver; frames are as on a wire.
fn tiers(driver: Driver) -> &'static [Tier] {
    const ALL: [Tier; 3] = [("native", Offloads::Off), ("generic", Offloads::Off), ("tc", Offloads::Off)];
    match driver {
        Driver::Virtio => &ALL,
        Driver::E1000 => &ALL[1..],
    }
}

fn check(driver: Driver, mode: Mode) -> Result<()> {
    /// There are devices for one director.
    static DEVICES: Mutex<()> = Mutex::new(());
    let _devices = DEVICES.lock();
    let balanced = Balanced::on(mode, Arms::Two, false, Some(driver))?;
    for tier in tiers(driver) {
        balanced.carry_by(*tier)?;
        let status = balanced.cluster.director.lvsadm("status")?;
        let is_carried = status.lines().any(|line| line.starts_with("eth0") && line.contains(tier.0));
        ensure!(is_carried, "not by {}: {status}", tier.0);
        balanced.serves(mode, false).with_context(|| format!("{tier:?}"))?;
    }
    Ok(())
}
