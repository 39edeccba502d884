//! What the flags read so far describe, and the command that comes of it.

use std::net::IpAddr;

use lvs_common::abi::tunnel::{self, Port, TunnelForm, TunnelKind};
use lvs_common::abi::{Forward, OwnEdits, service_flags};

use super::address::{self, Endpoint};
use super::argument::Argument;
use super::cmd::Cmd;
use super::command::{Command, Failure, List, Mode, Named};
use super::rule::{self, Rule};
use super::values;
use lvs_director::rules::{
    Daemon, Destination, DestinationKey, Family, Netmask, Protocol, Role, Service, ServiceKey, Timeouts, Tunnel,
    flag_by_name, scheduler_by_name,
};

/// The scheduler of a service that names none.
const DEFAULT_SCHEDULER: &str = "wlc";

/// What the flags read so far describe. The order of flags matters: some values are read by the flags before them.
pub struct Draft {
    /// Protocol of the service, by which ports are named.
    pub protocol: Option<Protocol>,
    /// Address of the service.
    pub endpoint: Option<Endpoint>,
    /// Firewall mark of the service; 0 is none.
    pub mark: u32,
    /// Family of the service.
    pub family: Family,
    /// Granularity of persistence.
    pub netmask: Netmask,
    /// Name of the scheduler; empty is the default.
    pub scheduler: String,
    /// Name of the persistence engine; empty is none.
    pub engine: String,
    /// Bits of [`service_flags`].
    pub flags: u32,
    /// Seconds of persistence.
    pub persistence: u32,
    /// Names of the scheduler's flags, with commas.
    pub sched_flags: String,
    /// The service's settings that ipvsadm lacks.
    pub own: OwnEdits,
    /// The real server.
    pub real_server: Option<DestinationKey>,
    /// How packets reach it.
    pub forward: Forward,
    /// Its weight.
    pub weight: u32,
    /// Its upper threshold.
    pub upper: u32,
    /// Its lower threshold.
    pub lower: u32,
    /// The tunnel to it.
    pub tunnel: TunnelDraft,
    /// The local address.
    pub local: Option<IpAddr>,
    /// What listings show.
    pub list: Shown,
    /// Whether listings are JSON.
    pub json: bool,
    /// The values of `--set`.
    pub timeouts: Timeouts,
    /// The synchronisation daemon.
    pub daemon: Daemon,
}

/// The flags about a tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunnelDraft {
    /// `--tun-type`
    pub kind: Option<TunnelKind>,
    /// `--tun-port`
    pub port: Option<u16>,
    /// `--tun-nocsum`
    pub no_checksum: bool,
    /// `--tun-csum`
    pub checksum: bool,
    /// `--tun-remcsum`
    pub remote_checksum: bool,
}

/// The switches of listings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown {
    /// `--numeric`
    pub numeric: bool,
    /// `--connection`
    pub connections: bool,
    /// `--timeout`
    pub timeouts: bool,
    /// `--daemon`
    pub daemons: bool,
    /// `--stats`
    pub statistics: bool,
    /// `--rate`
    pub rates: bool,
    /// `--exact`
    pub exact: bool,
    /// `--thresholds`
    pub thresholds: bool,
    /// `--persistent-conn`
    pub persistent: bool,
    /// `--tun-info`
    pub tunnels: bool,
    /// `--nosort`
    pub unsorted: bool,
}

impl Draft {
    /// Before any flag.
    pub fn new() -> Self {
        Draft {
            protocol: None,
            endpoint: None,
            mark: 0,
            family: Family::V4,
            netmask: Netmask::full(Family::V4),
            scheduler: String::new(),
            engine: String::new(),
            flags: 0,
            persistence: 0,
            sched_flags: String::new(),
            own: OwnEdits::default(),
            real_server: None,
            forward: Forward::Route,
            weight: 1,
            upper: 0,
            lower: 0,
            tunnel: TunnelDraft::default(),
            local: None,
            list: Shown::default(),
            json: false,
            timeouts: Timeouts::default(),
            daemon: Daemon::new(Role::Master),
        }
    }

    /// Takes a service's address.
    pub fn take_service(&mut self, argument: Argument<'_>, protocol: Protocol) -> Result<(), Failure> {
        self.protocol = Some(protocol);
        let Some(endpoint) = address::parse(argument.text(), self.protocol, argument.names) else {
            return Failure::usage("illegal virtual server address[:port] specified");
        };
        self.endpoint = Some(endpoint);
        if endpoint.address.is_ipv6() {
            self.set_family(Family::V6);
        }
        Ok(())
    }

    /// Sets the family of the service. A netmask that was read before is lost, as ipvsadm loses it.
    pub fn set_family(&mut self, family: Family) {
        self.family = family;
        self.netmask = Netmask::full(family);
    }

    /// Takes a real server's address.
    pub fn take_real_server(&mut self, argument: Argument<'_>) -> Result<(), Failure> {
        let Some(endpoint) = address::parse(argument.text(), self.protocol, argument.names) else {
            return Failure::usage("illegal real server address[:port] specified");
        };
        // Without a port it is the service's, as far as that is known yet.
        let service_port = self.endpoint.and_then(|service| service.port).unwrap_or(0);
        let port = endpoint.port.unwrap_or(service_port);
        self.real_server = Some(DestinationKey { address: endpoint.address, port });
        Ok(())
    }

    /// Takes the granularity of persistence, in the form of the family that is known so far.
    pub fn take_netmask(&mut self, argument: Argument<'_>) -> Result<(), Failure> {
        let text = argument.text();
        self.netmask = match self.family {
            Family::V6 => match values::leading_number(text) {
                prefix @ 1..=128 => Netmask::V6(prefix as u8),
                _ => return Failure::usage("illegal ipv6 netmask specified"),
            },
            Family::V4 => match values::inet_aton(text).or_else(|| argument.names.address(text)) {
                Some(mask) => Netmask::V4(mask),
                None => return Failure::usage("illegal virtual server persistent mask specified"),
            },
        };
        Ok(())
    }

    /// Reads the scheduler's flags, after all flags: then the scheduler is known.
    pub fn read_sched_flags(&mut self) -> Result<(), Failure> {
        let scheduler = scheduler_by_name(&self.scheduler);
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

    /// The command, after the options are known to be those that it takes.
    pub fn finish(self, command: Cmd) -> Result<Command, Failure> {
        Ok(match command {
            Cmd::AddService => Command::AddService(self.service()?),
            Cmd::EditService => Command::EditService(self.service()?),
            Cmd::DeleteService => Command::DeleteService(self.key()?),
            Cmd::Flush => Command::Flush,
            Cmd::List => Command::List { list: self.list()?, json: self.json },
            Cmd::AddServer => Command::AddDestination(self.key()?, self.destination()?),
            Cmd::EditServer => Command::EditDestination(self.key()?, self.destination()?),
            Cmd::DeleteServer => Command::DeleteDestination(self.key()?, self.destination_key()?),
            Cmd::Set => Command::SetTimeouts(self.timeouts),
            Cmd::StartDaemon => Command::StartDaemon(self.daemon),
            Cmd::StopDaemon => Command::StopDaemon(self.daemon.role),
            Cmd::Restore => Command::Restore,
            Cmd::Save => Command::Save { numeric: self.list.numeric },
            Cmd::AddLocal => Command::AddLocal(self.optional_key(), self.local()?),
            Cmd::DeleteLocal => Command::DeleteLocal(self.optional_key(), self.local()?),
            Cmd::ListLocals => Command::ListLocals { service: self.optional_key(), json: self.json },
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

    /// The key of a command that requires a service, so the check of options has seen it.
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
        if matches!(key, ServiceKey::Address { port: 0, .. }) && !persistent {
            return Failure::usage("Zero port specified for non-persistent service");
        }
        let scheduler = if self.scheduler.is_empty() { DEFAULT_SCHEDULER.to_owned() } else { self.scheduler };
        let service = Service {
            flags: self.flags,
            timeout: self.persistence,
            netmask: self.netmask,
            ..Service::new(key, Default::default())
        };
        Ok(Named { service, scheduler, engine: self.engine, own: self.own })
    }

    fn destination(self) -> Result<Destination, Failure> {
        let mut key = self.destination_key()?;
        let may_differ = matches!(self.forward, Forward::Tunnel | Forward::FullNat);
        if Family::of(key.address) != self.family && !may_differ {
            return Failure::usage("Different address family is allowed only for tunneling servers");
        }
        // Packets reach the real server as they are, so it has the service's port, whatever the command line says.
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
            tunnel: self.tunnel.finish(self.forward)?,
        })
    }

    fn list(&self) -> Result<List, Failure> {
        let shown = self.list;
        let settings = shown.timeouts || shown.daemons;
        let numbers = shown.statistics || shown.rates || shown.thresholds;
        if (settings || shown.connections) && numbers || settings && shown.persistent {
            return Failure::usage("options conflicts in the list command");
        }
        let modes = [
            (shown.statistics, Mode::Statistics),
            (shown.rates, Mode::Rates),
            (shown.thresholds, Mode::Thresholds),
            (shown.persistent, Mode::Persistent),
            (shown.tunnels, Mode::Tunnels),
        ];
        Ok(if shown.timeouts {
            List::Timeouts
        } else if shown.daemons {
            List::Daemons
        } else if shown.connections {
            List::Connections { numeric: shown.numeric, engines: shown.persistent }
        } else {
            List::Services {
                service: self.optional_key(),
                mode: modes.into_iter().find(|mode| mode.0).map_or(Mode::Default, |mode| mode.1),
                statistics: shown.statistics,
                rates: shown.rates,
                numeric: shown.numeric,
                exact: shown.exact,
                sorted: !shown.unsorted,
            }
        })
    }
}

impl TunnelDraft {
    /// The tunnel, if its options are those that its kind takes.
    fn finish(self, forward: Forward) -> Result<Tunnel, Failure> {
        let kind = self.kind.unwrap_or(TunnelKind::IPIP);
        let form = kind.form();
        if forward == Forward::Tunnel {
            let given = [self.port.is_some(), self.no_checksum, self.checksum, self.remote_checksum];
            let options = tunnel_rules(form).into_iter().zip(given);
            rule::check(options.map(|((name, rule), given)| (name, rule, given)), form.name, "tunnel type")?;
        } else if self != TunnelDraft::default() {
            return Failure::usage("Tunnel options conflict with forward method");
        }
        let flags = match (self.checksum, self.remote_checksum) {
            (true, _) => tunnel::CSUM,
            (_, true) => tunnel::REMCSUM,
            _ => 0,
        };
        Ok(Tunnel { kind, port: self.port.unwrap_or(form.usual_port()), flags })
    }
}

/// The rules of a kind of tunnel about its options.
fn tunnel_rules(form: &TunnelForm) -> [(&'static str, Option<Rule>); 4] {
    let port = match form.port {
        Port::None => None,
        Port::Required => Some(Rule::Required),
        Port::Usual(_) => Some(Rule::Optional),
    };
    let takes = |flags| (form.flags & flags != 0).then_some(Rule::Exclusive);
    [
        ("tun-port", port),
        ("tun-nocsum", takes(u8::MAX)),
        ("tun-csum", takes(tunnel::CSUM)),
        ("tun-remcsum", takes(tunnel::REMCSUM)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnels_take_the_options_of_their_kind() {
        let rules = |kind: TunnelKind| tunnel_rules(kind.form()).map(|(_, rule)| rule);
        let (required, optional, exclusive) = (Some(Rule::Required), Some(Rule::Optional), Some(Rule::Exclusive));
        assert_eq!(rules(TunnelKind::IPIP), [None; 4]);
        assert_eq!(rules(TunnelKind::GUE), [required, exclusive, exclusive, exclusive]);
        assert_eq!(rules(TunnelKind::GRE), [None, exclusive, exclusive, None]);
        assert_eq!(rules(TunnelKind::VXLAN), [optional, exclusive, exclusive, None]);
    }
}
