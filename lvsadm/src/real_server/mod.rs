//! `lvsadm real-server`: makes this host (this network namespace) a real server for direct routing or tunnels.
//!
//! Packets that a director sends on by DR or TUN are still addressed to the virtual address, so a real server must own it
//! without ever answering ARP for it, and for TUN must open the tunnel. What is set is written down before it is set, so
//! that `--off` undoes exactly that, whatever happened in between.

mod change;
mod decapsulation;
mod devices;
mod netlink;
mod state;

use std::net::IpAddr;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use change::Change;
use decapsulation::Tunnels;
use state::State;

/// The UDP port of VXLAN where none is given.
const VXLAN_PORT: u16 = 4789;

/// Arguments of `lvsadm real-server`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(group = clap::ArgGroup::new("action").required(true).multiple(true).args(["dr", "tun", "off", "status"]))]
pub struct RealServerArgs {
    /// Own the virtual addresses, for directors that forward by direct routing (-g)
    #[arg(long, requires = "vip", conflicts_with_all = ["off", "status"])]
    dr: bool,
    /// Own the virtual addresses and open tunnels, for directors that forward by tunnel (-i)
    #[arg(long, requires = "vip", conflicts_with_all = ["off", "status"])]
    tun: bool,
    /// Undo everything that was set
    #[arg(long, conflicts_with = "status")]
    off: bool,
    /// Say what is set, and whether it still is
    #[arg(long)]
    status: bool,
    /// Virtual addresses, IPv4 or IPv6
    #[arg(long, value_name = "ADDRESS", num_args = 1.., value_delimiter = ',', conflicts_with_all = ["off", "status"])]
    vip: Vec<IpAddr>,
    /// Tunnel types to open
    #[arg(long, value_name = "TYPE", value_delimiter = ',', default_value = "ipip")]
    tun_type: Vec<TunnelType>,
    /// UDP port of gue, which has no usual one, or of vxlan (usually 4789)
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    tun_port: Option<u16>,
    /// Devices the director's packets come in on (default: all that are up and Ethernet-like)
    #[arg(long, value_name = "DEVICE", num_args = 1.., value_delimiter = ',')]
    dev: Vec<String>,
}

/// The types of `--tun-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TunnelType {
    Ipip,
    Gue,
    Gre,
    Vxlan,
}

/// Runs `lvsadm real-server`.
pub fn run(args: &RealServerArgs) -> Result<()> {
    if args.status {
        State::open()?.print();
        return Ok(());
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("setting up a real server needs root");
    }
    let mut state = State::open()?;
    if args.off {
        return state.change_to(Vec::new());
    }
    let devices = if args.dev.is_empty() { devices::ethernet_like()? } else { args.dev.clone() };
    let mut wanted = silence(&devices)?;
    wanted.extend(args.vip.iter().map(|&vip| Change::Address { vip }));
    if args.tun {
        let tunnels = tunnels(args)?;
        wanted.extend(devices.into_iter().map(|device| Change::Filter { device, tunnels: tunnels.clone() }));
    }
    state.change_to(wanted)
}

/// Settings that keep the host from answering ARP for, or announcing, an address of another device (the virtual ones,
/// on `lo`), and from dropping clients' packets because the way back to them is another one.
fn silence(devices: &[String]) -> Result<Vec<Change>> {
    let mut settings =
        vec![Change::sysctl("net/ipv4/conf/all/arp_ignore", 1), Change::sysctl("net/ipv4/conf/all/arp_announce", 2)];
    for device in devices {
        let filter = format!("net/ipv4/conf/{device}/rp_filter");
        let all = "net/ipv4/conf/all/rp_filter";
        // The stricter of the two numbers is 1, but the larger one is in force: 2 is loose whatever `all` says.
        if change::read_sysctl(&filter)?.max(change::read_sysctl(all)?) == 1 {
            settings.push(Change::sysctl(&filter, 2));
        }
    }
    Ok(settings)
}

fn tunnels(args: &RealServerArgs) -> Result<Tunnels> {
    let has = |kind| args.tun_type.contains(&kind);
    if args.tun_port.is_some() && has(TunnelType::Gue) == has(TunnelType::Vxlan) {
        bail!("--tun-port goes with one of the tunnel types gue and vxlan");
    }
    if has(TunnelType::Gue) && args.tun_port.is_none() {
        bail!("the gue tunnel type needs --tun-port");
    }
    let mut vips = args.vip.clone();
    vips.sort();
    Ok(Tunnels {
        ipip: has(TunnelType::Ipip),
        gre: has(TunnelType::Gre),
        gue: args.tun_port.filter(|_| has(TunnelType::Gue)),
        vxlan: has(TunnelType::Vxlan).then(|| args.tun_port.unwrap_or(VXLAN_PORT)),
        vips,
    })
}
