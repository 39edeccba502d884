//! lvsadm's own sub-commands, which are words.

mod access;
mod agent;
mod doctor;
mod drain;
mod explain;
mod mark;
mod service;
mod top;
mod trace;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use super::choice;
use super::dialect::Dialect;
use lvs_director::dataplane::{MOST_DESTINATIONS, MOST_SERVICES};
use lvs_director::rules::{AttachMode, LogLevel};

pub use access::{AccessAction, AccessArgs};
pub use agent::ListenArgs;
pub use doctor::DoctorArgs;
pub use drain::DrainArgs;
pub use explain::ExplainArgs;
pub use mark::{MarkAction, TrafficArgs};
pub use top::{Order, Page, TopArgs};
pub use trace::{CaptureArgs, Server, TraceArgs};

/// lvsadm's sub-commands. Everything that begins with `-` is ipvsadm's grammar: see `lvsadm -h`.
#[derive(Debug, Parser)]
#[command(name = "lvsadm", disable_help_subcommand = true)]
pub struct Cli {
    /// Which of them.
    #[command(subcommand)]
    pub sub: Sub,
}

/// A sub-command.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Sub {
    /// Balance the packets of devices
    Attach {
        /// A device to attach to; may be repeated. Without any: LVS_DEVICES, else every device that is up
        #[arg(long = "dev", value_name = "DEVICE")]
        devices: Vec<String>,
        /// How to attach: auto, unless LVS_MODE says otherwise
        #[arg(long, value_parser = choice::attach_mode())]
        mode: Option<AttachMode>,
        /// Most connections at a time
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
        conns: Option<u32>,
        /// From which level on the data plane writes a log, for `lvsadm log`; decided when it is loaded
        #[arg(long, value_parser = choice::log_level(), value_name = "LEVEL")]
        log: Option<LogLevel>,
        /// Show the kernel's whole log of a program that it refuses
        #[arg(long)]
        verbose: bool,
    },
    /// Stop balancing the packets of devices; rules and connections stay
    Detach {
        /// A device to detach from; may be repeated. Without any: every device
        #[arg(long = "dev", value_name = "DEVICE")]
        devices: Vec<String>,
    },
    /// Show where and how the data plane is attached, and what it did with packets
    Status {
        /// As JSON: see docs/reference/json.md
        #[arg(long)]
        json: bool,
        /// Instead: how much work each program is for the kernel's verifier
        #[arg(long, conflicts_with = "json")]
        verifier: bool,
    },
    /// Find what is wrong: with the host, its devices, rules and tables, and with real servers
    ///
    /// Each finding says what is, why it matters, and the command that mends it. Real servers and neighbours are asked on the wire: by
    /// ARP and neighbour discovery, by pings and requests for connections, through each tunnel, and with packets of several sizes.
    /// Such a request is taken back as soon as it is answered. Nothing is changed. The exit status is 0 if nothing is wrong, 1 if there are
    /// warnings alone, 3 if there is a failure, and 2 if nothing could be examined.
    Doctor(DoctorArgs),
    /// Tell what becomes of a packet, and why; nothing is changed and nothing is sent
    ///
    /// The packet is given by its ends, or is one of a file that tcpdump or Wireshark wrote. It is run through the programs of the data plane
    /// on a copy of what they know, which is loaded for it and goes again. Beside what the programs do, each decision is told with what
    /// led to it: mark, service, lists of clients, connection, the scheduler's choice with weights and connections, rewriting, next hop.
    Explain(ExplainArgs),
    /// Follow packets as they are balanced: what came, what was decided about it, and how it left
    ///
    /// The data plane's programs stay as they are. Others are attached to their entry and to their return, and are gone as soon as this
    /// command ends, however it ends. Packets that are not chosen cost little meanwhile, and none is delayed by a slow terminal: what finds
    /// no room in memory is not shown, and counted.
    Trace(TraceArgs),
    /// Write packets to a file for tcpdump and Wireshark: as they came and as they left, also those that XDP takes
    ///
    /// The file is pcapng. Each packet has its device, its direction, and a comment with the exit, the verdict, the service and the real
    /// server. Packets leave as the data plane sends them: before the kernel splits large ones (GSO), and before it fills in the MAC addresses
    /// of a neighbour that it resolves itself.
    Capture(CaptureArgs),
    /// Go from what is configured to what a file wants, all at once, or not at all if there is a mistake in it
    ///
    /// The file's lines are what one would type after `lvsadm`: -A and -a as `lvsadm -S` prints them, --set, sysctl, attach,
    /// mark, block, allow, detach. A `#` begins a comment. Services and destinations that it does not name are deleted, those that it names as
    /// they are keep their connections and counters; settings, marks, lists of clients and devices it does not name stay as they
    /// are.
    Apply {
        /// The file, or - for standard input
        file: PathBuf,
        /// Show what would be done, and do nothing: `-` before rules that go, `+` before those that come
        #[arg(long)]
        dry_run: bool,
        /// Leave services alone that neither the file nor this one names: the file that was applied before
        #[arg(long, value_name = "FILE")]
        after: Option<PathBuf>,
    },
    /// Print the rules, as `lvsadm -S -n` does or, with --full, everything that is configured
    Save {
        /// Also thresholds, timeouts, settings, marks, lists of clients and devices: a file for `lvsadm apply`
        #[arg(long)]
        full: bool,
    },
    /// Print counters in Prometheus's text format, with node_exporter's names where it has some
    Metrics {
        /// Write them to a file instead, replaced as a whole: FILE.prom in node_exporter's textfile directory
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Show a director live in the terminal: services and their rates, real servers, drops, floods, how full the tables are
    ///
    /// Keys: 1 to 4 and Tab change the page, the arrows move, Enter opens a service and Esc goes back, s changes the order, / filters,
    /// q ends. What is a fault begins with `!`. With NO_COLOR in the environment there are no colours.
    Top(TopArgs),
    /// Detach from every device and forget rules and connections
    Unload,
    /// Make room for more connections, services or destinations, or for fewer, while packets flow
    ///
    /// A second data plane with tables of that size is loaded beside the one that runs, every connection moves there, and it takes
    /// over. Rules, counters, lists of clients and settings stay. No packet is dropped for it. Other commands wait meanwhile.
    #[command(group(clap::ArgGroup::new("sizes").required(true).multiple(true)))]
    Resize {
        /// Most connections at a time, of each family
        #[arg(long, group = "sizes", value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
        conns: Option<u32>,
        /// Most virtual services
        #[arg(long, group = "sizes", value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..i64::from(MOST_SERVICES)))]
        services: Option<u32>,
        /// Most destinations of all services together
        #[arg(long, group = "sizes", value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..i64::from(MOST_DESTINATIONS)))]
        destinations: Option<u32>,
    },
    /// Replace the data plane's programs by those of this lvsadm, while packets flow
    ///
    /// Rules, connections, counters and settings stay. No packet is dropped for it. The data plane may be an earlier or a later
    /// version's, with another layout of its maps.
    Upgrade,
    /// Follow the data plane's log
    Log,
    /// Serve devices from the moment they come up, and mend what changes on this host: runs until it is stopped
    ///
    /// Every command attaches the data plane to devices that have come up, forgets those that are gone, and sets the switches that
    /// the data plane needs. The agent does it whenever the kernel tells of a change, so that nobody has to type a command. Packets
    /// and connections do not need it: stopped or killed, it is missed only by devices that come later. One runs in each network
    /// namespace; lvsadm-agent.service is the one of the host.
    ///
    /// It writes changes of the director's health to the journal, with fields, once each: the first packets that are dropped for a
    /// reason in ten minutes, a connection table that is 80 % full, a real server that nobody answers for on its network, a device
    /// that was attached or detached.
    ///
    /// With --listen it answers HTTP requests, and changes nothing: / is a status page, /metrics is for Prometheus, and /api/ has every
    /// listing as JSON: services, connections, status, timeouts, daemons, pools, marks, block, allow.
    Agent(ListenArgs),
    /// Be a daemon of connection synchronisation: `--start-daemon` starts it, `--stop-daemon` ends it
    #[command(hide = true)]
    Synchronise {
        /// What one would type after `lvsadm` to start it
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Make this host a real server for direct routing, tunnels or FullNAT
    RealServer(crate::real_server::RealServerArgs),
    /// Take a real server out of service: no new connections, and wait until those that it has are over
    ///
    /// Its weight is set to 0 and stays so; everything else of it is left as it is. What is waited for is everything that
    /// refers to it: active connections, inactive ones (those being closed, and all of UDP), and persistence templates, which
    /// lead clients to it still unless the setting expire_quiescent_template is 1. In the end a line tells what remains. The exit
    /// status is 0 if nothing does, and 1 if something does. Where standard error is a terminal, a line there tells how it goes.
    Drain(DrainArgs),
    /// Give traffic firewall marks, for services by mark (-f)
    ///
    /// The data plane sees packets before netfilter could mark them, so what iptables or nftables would do in their mangle
    /// tables is done by rules here. A mark that a TC program or a socket of this host (SO_MARK) gave a packet counts where
    /// no rule is about it.
    Mark {
        /// What to do
        #[command(subcommand)]
        action: MarkAction,
    },
    /// Keep clients out of services: their addresses may open no connection, and those that they have end
    ///
    /// The host's firewall does not see packets that are balanced, so a client that nftables or iptables should keep out is kept
    /// out here. What is blocked stays out, whatever `lvsadm allow` says. The host's own services are not concerned.
    Block(AccessArgs),
    /// Let only these clients in to services
    ///
    /// As soon as a list has an entry, no client of either address family comes in that is not on it, and connections of others
    /// end. A client of a service that has a list of its own must be on that and on the list for all services, where there is
    /// one. If every entry of a list has come to its end, the list stays and lets nobody in: --flush or --delete opens it.
    Allow(AccessArgs),
    /// Show or set net.ipv4.vs settings of the data plane
    ///
    /// Every name that IPVS knows is taken, with or without net.ipv4.vs. before it. Of those that mean something else here, or
    /// nothing, a line on standard error says so.
    Sysctl {
        /// Set all settings back to their defaults first
        #[arg(long)]
        reset: bool,
        /// Instead: what the settings mean, their ranges and defaults
        #[arg(long, conflicts_with = "reset")]
        explain: bool,
        /// A setting to show, or to set. Without any: all are shown
        #[arg(value_name = "NAME[=VALUE]")]
        settings: Vec<String>,
    },
}

/// The sub-command of an argument vector, if its first argument is a word and the program's name is not ipvsadm's: what it
/// says, or clap's answer.
pub fn parse(argv: &[&str]) -> Option<Result<Sub, clap::Error>> {
    let (program, word) = (argv.first()?, argv.get(1)?);
    let name = program.rsplit('/').next().unwrap_or(program);
    let own = Dialect::of(name) == Dialect::Own && !word.is_empty() && !word.starts_with('-');
    own.then(|| Cli::try_parse_from(argv).map(|cli| cli.sub))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_lvsadms_own() {
        let attach = parse(&["lvsadm", "attach", "--dev", "eth0", "--dev", "eth1", "--mode", "native"]);
        let devices = vec!["eth0".to_owned(), "eth1".to_owned()];
        let mode = Some(AttachMode::Native);
        let expected = Sub::Attach { devices, mode, conns: None, log: None, verbose: false };
        assert_eq!(attach.unwrap().unwrap(), expected);
        assert!(parse(&["/sbin/lvsadm", "nonsense"]).unwrap().is_err());
        assert!(parse(&["/sbin/ipvsadm", "attach"]).is_none());
        assert!(parse(&["lvsadm", "-L"]).is_none());
        assert!(parse(&["lvsadm"]).is_none());
    }
}
