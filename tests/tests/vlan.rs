//! A director whose networks are VLANs of one cable. These tests count as ignored where the kernel has no VLAN devices.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use tests::balanced::{Balanced, DR, FULLNAT, GRE, GUE, IPIP, Mode, NAT, Tier, VXLAN};
use tests::topology::{Arms, Namespace, Offloads, TRUNK};

/// How packets are carried; and whether devices take tags out of the frames and put them in, which else stand beside the
/// packet: XDP sees only the frame.
const TIERS: [(Tier, &str); 4] = [
    (("native", Offloads::Off), "off"),
    (("native", Offloads::Off), "on"),
    (("tc", Offloads::Off), "off"),
    (("tc", Offloads::On), "on"),
];

/// Less than the packets of one upload of [`Balanced::serves`], and more than the first ones of its connections.
const FEW: u64 = 150;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let ignored = !kernel_has_vlans();
    let trial = |name, mode| {
        Trial::test(format!("vlan_{name}"), move || check(mode).map_err(|error| Failed::from(format!("{error:#}"))))
            .with_ignored_flag(ignored)
    };
    let modes = [
        ("nat", NAT),
        ("fullnat", FULLNAT),
        ("direct_routing", DR),
        ("ipip", IPIP),
        ("gue", GUE),
        ("gre", GRE),
        ("vxlan", VXLAN),
    ];
    libtest_mimic::run(&arguments, modes.map(|(name, mode)| trial(name, mode)).into()).exit_code()
}

/// Whether there can be VLAN devices here.
fn kernel_has_vlans() -> bool {
    let tried = || -> Result<()> {
        Namespace::new("vlan")?.ip(&["link add eth0 type veth", "link add link eth0 name vlan type vlan id 10"])
    };
    tried().is_ok()
}

fn check(mode: Mode) -> Result<()> {
    let balanced = Balanced::new(mode, Arms::Trunk, false)?;
    for (tier, tags) in TIERS {
        balanced.carry_by(tier)?;
        for host in [&balanced.cluster.director, &balanced.cluster.router] {
            host.run(&format!("ethtool -K {TRUNK} rxvlan {tags} txvlan {tags}"))?;
        }
        let what = || format!("{tier:?}, VLAN offloads {tags}");
        let before = received(&balanced)?;
        balanced.serves(mode, false).with_context(what)?;
        let after = received(&balanced)?;
        // XDP takes the frames of connections that are known from the device below.
        if (tier.0, tags) == ("native", "off") {
            ensure!(after - before < FEW, "{}: {} packets came to the VLAN's device", what(), after - before);
        }
    }
    Ok(())
}

/// Packets that the clients' VLAN has received.
fn received(balanced: &Balanced) -> Result<u64> {
    Ok(balanced.cluster.director.run("cat /sys/class/net/eth0/statistics/rx_packets")?.trim().parse()?)
}
