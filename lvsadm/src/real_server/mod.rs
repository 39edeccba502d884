//! `lvsadm real-server`: makes this host (this network namespace) a real server for direct routing, tunnels, or FullNAT.
//!
//! Packets that a director sends on by DR or TUN are still addressed to the virtual address, so a real server must own it
//! without ever answering ARP for it, and for TUN must open the tunnel. Those that it sends on by FullNAT need nothing, but
//! come from the director's address: the client's is in an option of TCP. What is set is written down before it is set, so
//! that `--off` undoes exactly that, whatever happened in between.

mod cgroup;
mod change;
mod decapsulation;
mod devices;
mod netlink;
mod state;
mod state_file;
mod toa;

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use ipnet::IpNet;
use lvs_common::abi::tunnel::{Port, TUNNELS, TunnelForm, TunnelKind};

use cgroup::Hierarchy;
use change::Change;
use decapsulation::{Opened, Tunnels};
use state::State;
use toa::Toa;

/// Arguments of `lvsadm real-server`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(group = clap::ArgGroup::new("action").required(true).multiple(true).args(["dr", "tun", "toa", "off", "status"]))]
pub struct RealServerArgs {
    /// Own the virtual addresses, for directors that forward by direct routing (-g)
    #[arg(long, requires = "vip", conflicts_with_all = ["off", "status"])]
    dr: bool,
    /// Own the virtual addresses and open tunnels, for directors that forward by tunnel (-i)
    #[arg(long, requires = "vip", conflicts_with_all = ["off", "status"])]
    tun: bool,
    /// Tell servers the clients' addresses, for directors that forward by FullNAT and insert TOA
    #[arg(long, requires = "trust", conflicts_with_all = ["off", "status"])]
    toa: bool,
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
    #[arg(long, value_name = "TYPE", value_delimiter = ',', default_value = "ipip", value_parser = tunnel_kinds())]
    tun_type: Vec<TunnelKind>,
    /// UDP port of gue, which has no usual one, or of vxlan (usually 4789)
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    tun_port: Option<u16>,
    /// Leave the TCP segment size that clients of the virtual addresses are told as it is (default: lowered by what the tunnel takes)
    #[arg(long, requires = "tun")]
    keep_mss: bool,
    /// Devices the director's packets come in on (default: all that are up and Ethernet-like)
    #[arg(long, value_name = "DEVICE", num_args = 1.., value_delimiter = ',')]
    dev: Vec<String>,
    /// Prefixes of the directors' local addresses: from nobody else is a client's address believed
    #[arg(long, value_name = "CIDR", num_args = 1.., value_delimiter = ',', value_parser = prefix, requires = "toa")]
    trust: Vec<IpNet>,
    /// Control groups whose servers are told, each by name or directory (default: all there are)
    #[arg(long, value_name = "PATH", num_args = 1.., value_delimiter = ',', requires = "toa")]
    cgroup: Vec<PathBuf>,
}

/// Reads the kinds of `--tun-type`.
fn tunnel_kinds() -> impl TypedValueParser<Value = TunnelKind> {
    PossibleValuesParser::new(TUNNELS.iter().map(|form| form.name))
        .map(|name| TunnelKind::by_name(&name).unwrap_or_default())
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
    let mut wanted = Vec::new();
    if args.toa {
        wanted.push(Change::Toa(toa(args)?));
    }
    if args.dr || args.tun {
        if args.tun {
            devices::carry_ethernet(&args.dev)?;
        }
        let devices = if args.dev.is_empty() { devices::ethernet_like()? } else { args.dev.clone() };
        wanted.extend(silence(&devices)?);
        wanted.extend(args.vip.iter().map(|&vip| Change::Address { vip }));
        if args.tun {
            let tunnels = tunnels(args)?;
            wanted.extend(devices.into_iter().map(|device| Change::Filter { device, tunnels: tunnels.clone() }));
            if tunnels.are_over_udp() {
                wanted.push(Change::Segments { tunnels: tunnels.clone() });
            }
            // Answers may leave by a device that no tunnel comes in on.
            let answering = if args.keep_mss { Vec::new() } else { devices::ethernet_like()? };
            wanted.extend(answering.into_iter().map(|device| Change::SegmentSize { device, tunnels: tunnels.clone() }));
        }
    } else if !args.vip.is_empty() || !args.dev.is_empty() {
        bail!("--vip and --dev go with --dr or --tun");
    }
    state.change_to(wanted)
}

/// A text is no prefix.
#[derive(Debug, thiserror::Error)]
#[error("neither an address nor a prefix of addresses")]
struct NoPrefix;

/// A prefix, or an address for itself alone. What an address has after its prefix does not count.
fn prefix(text: &str) -> Result<IpNet, NoPrefix> {
    let prefix = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    prefix.map(|prefix: IpNet| prefix.trunc()).map_err(|_| NoPrefix)
}

fn toa(args: &RealServerArgs) -> Result<Toa> {
    let trust = IpNet::aggregate(&args.trust);
    if trust.len() > toa::PREFIXES {
        bail!("--trust takes up to {} prefixes", toa::PREFIXES);
    }
    let hierarchy = Hierarchy::open()?;
    let all = [PathBuf::from(cgroup::ROOT)];
    let given = if args.cgroup.is_empty() { &all[..] } else { &args.cgroup };
    let names = given.iter().map(|path| hierarchy.name(path)).collect::<Result<Vec<_>>>()?;
    Ok(Toa { trust, cgroups: cgroup::outermost(&names) })
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
    let has = |form: &TunnelForm| args.tun_type.contains(&form.kind);
    let with_port = || TUNNELS.iter().filter(|form| form.has_port());
    if args.tun_port.is_some() && with_port().filter(|form| has(form)).count() != 1 {
        let names: Vec<&str> = with_port().map(|form| form.name).collect();
        bail!("--tun-port goes with one of the tunnel types {}", names.join(" and "));
    }
    if args.tun_port.is_none()
        && let Some(form) = TUNNELS.iter().find(|form| form.port == Port::Required && has(form))
    {
        bail!("the {} tunnel type needs --tun-port", form.name);
    }
    let mut vips = args.vip.clone();
    vips.sort();
    Ok(Tunnels {
        kinds: TUNNELS
            .iter()
            .map(|form| {
                let port = || args.tun_port.unwrap_or(form.usual_port());
                let opened =
                    if form.has_port() { Opened::Port(has(form).then(port)) } else { Opened::Plain(has(form)) };
                (form.name.to_owned(), opened)
            })
            .collect(),
        vips,
    })
}
