//! From arguments to a checked command.

use std::net::IpAddr;

use lvs_common::abi::tunnel::{self, TunnelKind};
use lvs_common::abi::{Forward, service_flags};

use super::Dialect;
use super::address::{self, Endpoint};
use super::command::{Command, Failure, List, Mode, Named};
use super::flags::Id;
use super::matrix::{Cmd, Opt, Options};
use super::popt::Popt;
use super::values;
use crate::names::Names;
use crate::rules::{
    Destination, DestinationKey, Family, Netmask, Protocol, Service, ServiceKey, Timeouts, Tunnel, flag_by_name,
    scheduler_by_name,
};

/// Greatest timeout: 31 days.
const MAX_TIMEOUT: i64 = 31 * 24 * 60 * 60;
/// Seconds of `-p` without a value.
const DEFAULT_PERSISTENCE: u32 = 360;
/// The scheduler of a service that names none.
const DEFAULT_SCHEDULER: &str = "wlc";
/// Longest name of a scheduler.
const SCHEDULER_NAME: usize = 15;
/// Reads the arguments after the program's name.
pub fn parse(arguments: &[&str], dialect: Dialect, names: &mut dyn Names) -> Result<Command, Failure> {
    let mut popt = Popt::new(arguments, dialect);
    let (command, value) = match popt.flag() {
        Some(Ok((flag, value))) => match flag.id {
            Id::Command(command) => (command, value),
            Id::Help => return Ok(Command::Help),
            Id::Version => return Ok(Command::Version),
            _ => return Err(Failure::NoCommand),
        },
        _ => return Err(Failure::NoCommand),
    };
    check_daemon(command, value)?;
    let mut draft = Draft::new();
    while let Some(flag) = popt.flag() {
        let (flag, value) = flag.map_err(|bad| Failure::Option(format!("{}: {}", popt.culprit(), bad.text())))?;
        if matches!(flag.id, Id::Command(_) | Id::Help | Id::Version) {
            return Failure::usage(format!("invalid option `{}'", popt.culprit()));
        }
        if let Some(option) = flag.option {
            draft.options.set(option)?;
        }
        draft.take(flag.id, value, dialect, names)?;
    }
    let mut positional = popt.positional().into_iter();
    if command == Cmd::Set {
        draft.timeouts = timeouts(&mut positional)?;
    }
    if let Some(extra) = positional.next() {
        return Failure::usage(format!("unexpected argument {extra}"));
    }
    draft.take_sched_flags()?;
    draft.options.check(command)?;
    draft.finish(command)
}

/// The word that says which sync daemon.
fn check_daemon(command: Cmd, word: Option<&str>) -> Result<(), Failure> {
    match (command, word) {
        (_, None | Some("master" | "backup")) => Ok(()),
        (Cmd::StartDaemon, _) => Failure::usage("illegal start-daemon parameter specified"),
        _ => Failure::usage("illegal start_daemon specified"),
    }
}

/// The three values of `--set`.
fn timeouts<'a>(values: &mut impl Iterator<Item = &'a str>) -> Result<Timeouts, Failure> {
    let (Some(tcp), Some(tcp_fin), Some(udp)) = (values.next(), values.next(), values.next()) else {
        return Failure::usage("--set option requires 3 timeout values");
    };
    Ok(Timeouts { tcp: timeout(tcp, 0)?, tcp_fin: timeout(tcp_fin, 0)?, udp: timeout(udp, 0)? })
}

/// A timeout in seconds.
fn timeout(text: &str, least: i64) -> Result<u32, Failure> {
    match values::number(text, least..=MAX_TIMEOUT) {
        Some(seconds) => Ok(seconds as u32),
        None => Failure::usage(format!("invalid timeout value `{text}' specified")),
    }
}

/// The timeouts of a service, `TCP[:TCPFIN[:UDP]]`; those that are not given are 0.
fn own_timeouts(text: &str) -> Result<Timeouts, Failure> {
    let mut values = [0; 3];
    let mut parts = text.split(':');
    for (value, part) in values.iter_mut().zip(&mut parts) {
        *value = timeout(part, 0)?;
    }
    if parts.next().is_some() {
        return Failure::usage(format!("invalid timeout value `{text}' specified: it is tcp[:tcpfin[:udp]]"));
    }
    let [tcp, tcp_fin, udp] = values;
    Ok(Timeouts { tcp, tcp_fin, udp })
}

/// A number in range, or a sentence.
fn ranged(text: &str, least: i64, greatest: i64, sentence: &str) -> Result<u32, Failure> {
    match values::number(text, least..=greatest) {
        Some(number) => Ok(number as u32),
        None => Failure::usage(sentence),
    }
}

/// What the options seen so far say. Later values are read in the light of earlier ones.
struct Draft<'a> {
    options: Options,
    protocol: Option<Protocol>,
    endpoint: Option<Endpoint>,
    /// 0 is none.
    mark: u32,
    family: Family,
    netmask: Netmask,
    scheduler: &'a str,
    engine: &'a str,
    flags: u32,
    persistence: u32,
    sched_flags: &'a str,
    real_server: Option<DestinationKey>,
    forward: Forward,
    weight: u32,
    upper: u32,
    lower: u32,
    tunnel: TunnelKind,
    tunnel_port: u16,
    local: Option<IpAddr>,
    /// Whether a service challenges.
    challenges: bool,
    /// Those of `--set` or of a service.
    timeouts: Timeouts,
}

impl<'a> Draft<'a> {
    fn new() -> Self {
        Draft {
            options: Options::default(),
            protocol: None,
            endpoint: None,
            mark: 0,
            family: Family::V4,
            netmask: Netmask::full(Family::V4),
            scheduler: "",
            engine: "",
            flags: 0,
            persistence: 0,
            sched_flags: "",
            real_server: None,
            forward: Forward::Route,
            weight: 1,
            upper: 0,
            lower: 0,
            tunnel: TunnelKind::IPIP,
            tunnel_port: 0,
            local: None,
            challenges: false,
            timeouts: Timeouts::default(),
        }
    }

    /// Takes one flag. The value is there if the flag always has one.
    fn take(&mut self, id: Id, value: Option<&'a str>, dialect: Dialect, names: &mut dyn Names) -> Result<(), Failure> {
        let text = value.unwrap_or_default();
        let greatest = i64::from(i32::MAX);
        match id {
            Id::Tcp => self.take_service(text, Protocol::Tcp, names)?,
            Id::Udp => self.take_service(text, Protocol::Udp, names)?,
            Id::Sctp => self.take_service(text, Protocol::Sctp, names)?,
            Id::Fwmark => {
                let sentence = format!("invalid fwmark value `{text}' specified");
                self.mark = ranged(text, 1, i64::from(u32::MAX), &sentence)?;
                // Names of a real server's ports are TCP's then.
                self.protocol = Some(Protocol::Tcp);
            }
            // The blank line is ipvsadm's.
            Id::Ipv6 if self.mark == 0 => return Failure::usage("-6 used before -f\n"),
            Id::Ipv6 => self.set_family(Family::V6),
            Id::Scheduler => self.scheduler = cut(text, SCHEDULER_NAME),
            Id::Engine => self.engine = text,
            Id::Persistent => {
                self.flags |= service_flags::PERSISTENT;
                self.persistence = value.map_or(Ok(DEFAULT_PERSISTENCE), |text| timeout(text, 1))?;
            }
            Id::Netmask => self.netmask = self.parse_netmask(text, names)?,
            Id::RealServer => self.take_real_server(text, names)?,
            Id::Route => self.forward = Forward::Route,
            Id::Tunnel => self.forward = Forward::Tunnel,
            Id::Masq => self.forward = Forward::Masq,
            Id::FullNat => self.forward = Forward::FullNat,
            Id::TunType => match TunnelKind::by_name(text) {
                Some(kind) if kind.form().own.is_none() || dialect == Dialect::Own => self.tunnel = kind,
                _ => return Failure::usage("illegal tunnel type specified"),
            },
            Id::TunPort => self.tunnel_port = ranged(text, 1, 65535, "illegal tunnel port specified")? as u16,
            Id::Local => match address::parse(text, None, names) {
                Some(Endpoint { address, port: None }) => self.local = Some(address),
                _ => return Failure::usage(format!("illegal local address `{text}' specified")),
            },
            Id::Weight => self.weight = ranged(text, 0, greatest, "illegal weight specified")?,
            Id::Upper => self.upper = ranged(text, 0, greatest, "illegal u_threshold specified")?,
            Id::Lower => self.lower = ranged(text, 0, greatest, "illegal l_threshold specified")?,
            Id::SchedFlags => self.sched_flags = text,
            Id::ConnTimeout => self.timeouts = own_timeouts(text)?,
            Id::SynProxy => {
                self.challenges = match text {
                    "enable" => true,
                    "disable" => false,
                    _ => {
                        return Failure::usage(format!("illegal synproxy `{text}' specified: it is enable or disable"));
                    }
                }
            }
            Id::SyncGroup => drop(ranged(text, 0, 255, "illegal syncid specified")?),
            Id::SyncMaxLen => drop(ranged(text, 1, 65507, "illegal sync-maxlen specified")?),
            Id::McastGroup => {
                if let Err(family) = values::multicast_group(text) {
                    return Failure::usage(format!("invalid {family} mcast-group `{text}'"));
                }
            }
            Id::McastPort => drop(ranged(text, 1, 65535, "illegal mcast-port specified")?),
            Id::McastTtl => drop(ranged(text, 1, 255, "illegal mcast-ttl specified")?),
            Id::Plain | Id::Command(_) | Id::Help | Id::Version => {}
        }
        Ok(())
    }

    fn take_service(&mut self, text: &str, protocol: Protocol, names: &mut dyn Names) -> Result<(), Failure> {
        self.protocol = Some(protocol);
        let Some(endpoint) = address::parse(text, self.protocol, names) else {
            return Failure::usage("illegal virtual server address[:port] specified");
        };
        self.endpoint = Some(endpoint);
        if endpoint.address.is_ipv6() {
            self.set_family(Family::V6);
        }
        Ok(())
    }

    fn set_family(&mut self, family: Family) {
        self.family = family;
        self.netmask = Netmask::full(family);
    }

    fn take_real_server(&mut self, text: &str, names: &mut dyn Names) -> Result<(), Failure> {
        let Some(endpoint) = address::parse(text, self.protocol, names) else {
            return Failure::usage("illegal real server address[:port] specified");
        };
        // Without a port it is the service's, as far as that is known yet.
        let service_port = self.endpoint.and_then(|service| service.port).unwrap_or(0);
        let port = endpoint.port.unwrap_or(service_port);
        self.real_server = Some(DestinationKey { address: endpoint.address, port });
        Ok(())
    }

    fn parse_netmask(&self, text: &str, names: &mut dyn Names) -> Result<Netmask, Failure> {
        match self.family {
            Family::V6 => match values::leading_number(text) {
                prefix @ 1..=128 => Ok(Netmask::V6(prefix as u8)),
                _ => Failure::usage("illegal ipv6 netmask specified"),
            },
            Family::V4 => match values::inet_aton(text).or_else(|| names.address(text)) {
                Some(mask) => Ok(Netmask::V4(mask)),
                None => Failure::usage("illegal virtual server persistent mask specified"),
            },
        }
    }

    /// Reads the scheduler's flags, once the scheduler is known.
    fn take_sched_flags(&mut self) -> Result<(), Failure> {
        let scheduler = scheduler_by_name(self.scheduler);
        for name in self.sched_flags.split(',').filter(|name| !name.is_empty()) {
            match flag_by_name(name) {
                None => return Failure::usage(format!("invalid scheduler flag `{name}'")),
                Some((_, Some(needed))) if Some(needed) != scheduler => {
                    return Failure::usage(format!("incompatible scheduler flag `{name}'"));
                }
                Some((bit, _)) => self.flags |= bit,
            }
        }
        Ok(())
    }

    /// The command, once the options are known to be such as it takes.
    fn finish(self, command: Cmd) -> Result<Command, Failure> {
        Ok(match command {
            Cmd::AddService => Command::AddService(self.service()?),
            Cmd::EditService => Command::EditService(self.service()?),
            Cmd::DeleteService => Command::DeleteService(self.key()?),
            Cmd::Flush => Command::Flush,
            Cmd::List => Command::List { list: self.list()?, json: self.options.has(Opt::Json) },
            Cmd::AddServer => Command::AddDestination(self.key()?, self.destination()?),
            Cmd::EditServer => Command::EditDestination(self.key()?, self.destination()?),
            Cmd::DeleteServer => Command::DeleteDestination(self.key()?, self.destination_key()?),
            Cmd::Set => Command::SetTimeouts(self.timeouts),
            Cmd::StartDaemon | Cmd::StopDaemon => Command::Daemon,
            Cmd::Restore => Command::Restore,
            Cmd::Save => Command::Save { numeric: self.options.has(Opt::Numeric) },
            Cmd::AddLocal => Command::AddLocal(self.optional_key(), self.local()?),
            Cmd::DeleteLocal => Command::DeleteLocal(self.optional_key(), self.local()?),
            Cmd::ListLocals => Command::ListLocals { service: self.optional_key(), json: self.options.has(Opt::Json) },
            Cmd::Zero => Command::Zero(self.optional_key()),
        })
    }

    fn optional_key(&self) -> Option<ServiceKey> {
        if self.mark != 0 {
            return Some(ServiceKey::Fwmark { mark: self.mark, family: self.family });
        }
        let Endpoint { address, port } = self.endpoint?;
        Some(ServiceKey::Address { protocol: self.protocol?, address, port: port.unwrap_or(0) })
    }

    /// The key of a command that requires a service, so the matrix has seen that there is one.
    fn key(&self) -> Result<ServiceKey, Failure> {
        self.optional_key().ok_or(Failure::NoCommand)
    }

    fn destination_key(&self) -> Result<DestinationKey, Failure> {
        self.real_server.ok_or(Failure::NoCommand)
    }

    /// The local address of a command that requires one.
    fn local(&self) -> Result<IpAddr, Failure> {
        self.local.ok_or(Failure::NoCommand)
    }

    fn service(self) -> Result<Named, Failure> {
        let key = self.key()?;
        let persistent = self.flags & service_flags::PERSISTENT != 0;
        if let ServiceKey::Address { protocol, port, .. } = key {
            if port == 0 && !persistent {
                return Failure::usage("Zero port specified for non-persistent service");
            }
            if self.options.has(Opt::Ops) && protocol != Protocol::Udp {
                return Failure::usage("One-Packet Scheduling is only for UDP virtual services");
            }
            if self.challenges && protocol != Protocol::Tcp {
                return Failure::usage("synproxy is only for TCP virtual services");
            }
        }
        let one_packet = if self.options.has(Opt::Ops) { service_flags::ONE_PACKET } else { 0 };
        let scheduler = if self.scheduler.is_empty() { DEFAULT_SCHEDULER } else { self.scheduler };
        let service = Service {
            flags: self.flags | one_packet,
            timeout: self.persistence,
            netmask: self.netmask,
            ..Service::new(key, Default::default())
        };
        let timeouts = self.options.has(Opt::ConnTimeout).then_some(self.timeouts);
        let challenges = self.options.has(Opt::SynProxy).then_some(self.challenges);
        Ok(Named { service, scheduler: scheduler.to_owned(), engine: self.engine.to_owned(), timeouts, challenges })
    }

    fn destination(self) -> Result<Destination, Failure> {
        let mut key = self.destination_key()?;
        let may_differ = matches!(self.forward, Forward::Tunnel | Forward::FullNat);
        if Family::of(key.address) != self.family && !may_differ {
            return Failure::usage("Different address family is allowed only for tunneling servers");
        }
        // Packets reach the real server as they are, so the port is theirs whatever was said.
        if let (Forward::Route | Forward::Tunnel, Some(ServiceKey::Address { port, .. })) =
            (self.forward, self.optional_key())
        {
            key.port = port;
        }
        Ok(Destination {
            key,
            forward: self.forward,
            weight: self.weight,
            upper: self.upper,
            lower: self.lower,
            tunnel: self.tunnel()?,
        })
    }

    fn tunnel(&self) -> Result<Tunnel, Failure> {
        const ALL: [Opt; 5] = [Opt::TunType, Opt::TunPort, Opt::TunNoCsum, Opt::TunCsum, Opt::TunRemCsum];
        if self.forward == Forward::Tunnel {
            self.options.check_tunnel(self.tunnel)?;
        } else if self.options.any(&ALL) {
            return Failure::usage("Tunnel options conflict with forward method");
        }
        let port = if self.tunnel_port == 0 { self.tunnel.form().usual_port() } else { self.tunnel_port };
        let flags = match (self.options.has(Opt::TunCsum), self.options.has(Opt::TunRemCsum)) {
            (true, _) => tunnel::CSUM,
            (_, true) => tunnel::REMCSUM,
            _ => 0,
        };
        Ok(Tunnel { kind: self.tunnel, port, flags })
    }

    fn list(&self) -> Result<List, Failure> {
        let has = |option| self.options.has(option);
        let settings = has(Opt::Timeout) || has(Opt::Daemon);
        let numbers = self.options.any(&[Opt::Stats, Opt::Rate, Opt::Thresholds]);
        if (settings || has(Opt::Connection)) && numbers || settings && has(Opt::PersistentConn) {
            return Failure::usage("options conflicts in the list command");
        }
        let modes = [
            (Opt::Stats, Mode::Statistics),
            (Opt::Rate, Mode::Rates),
            (Opt::Thresholds, Mode::Thresholds),
            (Opt::PersistentConn, Mode::Persistent),
            (Opt::TunInfo, Mode::Tunnels),
        ];
        let numeric = has(Opt::Numeric);
        Ok(if has(Opt::Timeout) {
            List::Timeouts
        } else if has(Opt::Daemon) {
            List::Daemons
        } else if has(Opt::Connection) {
            List::Connections { numeric, engines: has(Opt::PersistentConn) }
        } else {
            List::Services {
                service: self.optional_key(),
                mode: modes.into_iter().find(|mode| has(mode.0)).map_or(Mode::Default, |mode| mode.1),
                statistics: has(Opt::Stats),
                rates: has(Opt::Rate),
                numeric,
                exact: has(Opt::Exact),
                sorted: !has(Opt::NoSort),
            }
        })
    }
}

/// The first `length` bytes, or fewer where a character would be cut in two.
fn cut(text: &str, length: usize) -> &str {
    let end = (0..=length.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    &text[..end]
}
