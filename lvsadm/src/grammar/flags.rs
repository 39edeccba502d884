//! Every flag, once: what parsing and help (and whatever else is made of flags) know of it.

use super::Dialect;
use super::matrix::{Cmd, Opt};

/// What a flag does when it is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the flags' own names")]
pub enum Id {
    Command(Cmd),
    Help,
    Version,
    Tcp,
    Udp,
    Sctp,
    Fwmark,
    Ipv6,
    Scheduler,
    Engine,
    Persistent,
    Netmask,
    RealServer,
    Route,
    Tunnel,
    Masq,
    FullNat,
    TunType,
    TunPort,
    Weight,
    Upper,
    Lower,
    SchedFlags,
    ConnTimeout,
    SynProxy,
    Local,
    SyncGroup,
    SyncMaxLen,
    McastGroup,
    McastPort,
    McastTtl,
    /// Its being there is all there is to it.
    Plain,
}

/// Whether a flag takes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// None.
    No,
    /// Always one, even if it begins with `-`.
    Yes,
    /// The next argument, if that does not begin with `-`.
    Optional,
}

/// Where in the help a flag stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the sections' own names")]
pub enum Section {
    Commands,
    Service,
    Options,
    Daemon,
    /// lvsadm's own; unknown to the literal dialect.
    Own,
    /// Nowhere, and unknown to the literal dialect.
    OwnHidden,
    /// Nowhere.
    Hidden,
}

/// A flag.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// What it does.
    pub id: Id,
    /// Its counted option, if it is one.
    pub option: Option<Opt>,
    /// Its long name.
    pub long: &'static str,
    /// Its short names.
    pub short: &'static str,
    /// Whether it takes a value.
    pub value: Value,
    /// Where in the help it stands.
    pub section: Section,
    /// What stands for its value there.
    pub placeholder: &'static str,
    /// The lines that explain it there.
    pub help: &'static [&'static str],
}

impl Flag {
    /// Whether a dialect has it.
    pub fn is_in(&self, dialect: Dialect) -> bool {
        dialect == Dialect::Own || !matches!(self.section, Section::Own | Section::OwnHidden)
    }
}

/// A command's flag.
const fn command(command: Cmd, long: &'static str, short: &'static str, help: &'static [&'static str]) -> Flag {
    let value = match command {
        Cmd::StartDaemon | Cmd::StopDaemon => Value::Yes,
        _ => Value::No,
    };
    let section = Section::Commands;
    Flag { id: Id::Command(command), option: None, long, short, value, section, placeholder: "", help }
}

/// An option without a value.
const fn plain(option: Opt, long: &'static str, short: &'static str, help: &'static [&'static str]) -> Flag {
    switch(Id::Plain, option, long, short, help)
}

/// An option without a value that does more than be there.
const fn switch(id: Id, option: Opt, long: &'static str, short: &'static str, help: &'static [&'static str]) -> Flag {
    let section = Section::Options;
    Flag { id, option: Some(option), long, short, value: Value::No, section, placeholder: "", help }
}

/// An option with a value.
const fn valued(
    id: Id,
    option: Opt,
    long: &'static str,
    short: &'static str,
    placeholder: &'static str,
    help: &'static [&'static str],
) -> Flag {
    let section = Section::Options;
    Flag { id, option: Some(option), long, short, value: Value::Yes, section, placeholder, help }
}

/// The flag in another section.
const fn within(section: Section, flag: Flag) -> Flag {
    Flag { section, ..flag }
}

/// The flags, in the order of the help.
#[rustfmt::skip]
pub const FLAGS: &[Flag] = &[
    command(Cmd::AddService, "add-service", "A", &["add virtual service with options"]),
    command(Cmd::EditService, "edit-service", "E", &["edit virtual service with options"]),
    command(Cmd::DeleteService, "delete-service", "D", &["delete virtual service"]),
    command(Cmd::Flush, "clear", "C", &["clear the whole table"]),
    command(Cmd::Restore, "restore", "R", &["restore rules from stdin"]),
    command(Cmd::Save, "save", "S", &["save rules to stdout"]),
    command(Cmd::AddServer, "add-server", "a", &["add real server with options"]),
    command(Cmd::EditServer, "edit-server", "e", &["edit real server with options"]),
    command(Cmd::DeleteServer, "delete-server", "d", &["delete real server"]),
    command(Cmd::List, "list", "Ll", &["list the table"]),
    command(Cmd::Zero, "zero", "Z", &["zero counters in a service or all services"]),
    Flag { placeholder: "tcp tcpfin udp", ..command(Cmd::Set, "set", "", &["set connection timeout values"]) },
    command(Cmd::StartDaemon, "start-daemon", "", &["start connection sync daemon"]),
    command(Cmd::StopDaemon, "stop-daemon", "", &["stop connection sync daemon"]),
    Flag { id: Id::Help, ..command(Cmd::List, "help", "h", &["display this help message"]) },
    Flag { id: Id::Version, section: Section::Hidden, ..command(Cmd::List, "version", "v", &[]) },

    within(Section::Service, valued(Id::Tcp, Opt::Service, "tcp-service", "t", "service-address",
        &["service-address is host[:port]"])),
    within(Section::Service, valued(Id::Udp, Opt::Service, "udp-service", "u", "service-address",
        &["service-address is host[:port]"])),
    within(Section::Service, valued(Id::Sctp, Opt::Service, "sctp-service", "", "service-address",
        &["service-address is host[:port]"])),
    within(Section::Service, valued(Id::Fwmark, Opt::Service, "fwmark-service", "f", "fwmark",
        &["fwmark is an integer greater than zero"])),

    Flag { option: None, ..switch(Id::Ipv6, Opt::Service, "ipv6", "6", &["fwmark entry uses IPv6"]) },
    valued(Id::Scheduler, Opt::Scheduler, "scheduler", "s", "scheduler",
        &["one of rr|wrr|lc|wlc|lblc|lblcr|dh|sh|sed|nq|fo|ovf|mh,", "the default scheduler is wlc."]),
    valued(Id::Engine, Opt::Engine, "pe", "", "engine",
        &["alternate persistence engine may be sip,", "not set by default."]),
    Flag { value: Value::Optional,
        ..valued(Id::Persistent, Opt::Persistent, "persistent", "p", "[timeout]", &["persistent service"]) },
    valued(Id::Netmask, Opt::Netmask, "netmask", "M", "netmask", &["persistent granularity mask"]),
    valued(Id::RealServer, Opt::RealServer, "real-server", "r", "server-address",
        &["server-address is host (and port)"]),
    switch(Id::Route, Opt::Forward, "gatewaying", "g", &["gatewaying (direct routing) (default)"]),
    switch(Id::Tunnel, Opt::Forward, "ipip", "i", &["ipip encapsulation (tunneling)"]),
    switch(Id::Masq, Opt::Forward, "masquerading", "m", &["masquerading (NAT)"]),
    valued(Id::TunType, Opt::TunType, "tun-type", "", "type",
        &["one of ipip|gue|gre,", "the default tunnel type is ipip."]),
    valued(Id::TunPort, Opt::TunPort, "tun-port", "", "port", &["tunnel destination port"]),
    plain(Opt::TunNoCsum, "tun-nocsum", "", &["tunnel encapsulation without checksum"]),
    plain(Opt::TunCsum, "tun-csum", "", &["tunnel encapsulation with checksum"]),
    plain(Opt::TunRemCsum, "tun-remcsum", "", &["tunnel encapsulation with remote checksum"]),
    valued(Id::Weight, Opt::Weight, "weight", "w", "weight", &["capacity of real server"]),
    valued(Id::Upper, Opt::Upper, "u-threshold", "x", "uthreshold", &["upper threshold of connections"]),
    valued(Id::Lower, Opt::Lower, "l-threshold", "y", "lthreshold", &["lower threshold of connections"]),
    plain(Opt::Connection, "connection", "c", &["output of current IPVS connections"]),
    plain(Opt::Timeout, "timeout", "", &["output of timeout (tcp tcpfin udp)"]),
    plain(Opt::Daemon, "daemon", "", &["output of daemon information"]),
    plain(Opt::Stats, "stats", "", &["output of statistics information"]),
    plain(Opt::Rate, "rate", "", &["output of rate information"]),
    plain(Opt::Exact, "exact", "", &["expand numbers (display exact values)"]),
    // The help keeps its short name to itself.
    within(Section::Hidden, plain(Opt::Exact, "exact", "X", &[])),
    plain(Opt::Thresholds, "thresholds", "", &["output of thresholds information"]),
    plain(Opt::PersistentConn, "persistent-conn", "", &["output of persistent connection info"]),
    plain(Opt::TunInfo, "tun-info", "", &["output of tunnel information"]),
    plain(Opt::NoSort, "nosort", "", &["disable sorting output of service/server entries"]),
    Flag { option: None,
        ..plain(Opt::NoSort, "sort", "", &["does nothing, for backwards compatibility"]) },
    plain(Opt::Ops, "ops", "o", &["one-packet scheduling"]),
    plain(Opt::Numeric, "numeric", "n", &["numeric output of addresses and ports"]),
    valued(Id::SchedFlags, Opt::SchedFlags, "sched-flags", "b", "flags", &["scheduler flags (comma-separated)"]),

    within(Section::Daemon, valued(Id::SyncGroup, Opt::SyncId, "syncid", "", "sid",
        &["syncid for connection sync (default=255)"])),
    within(Section::Daemon, valued(Id::SyncMaxLen, Opt::SyncMaxLen, "sync-maxlen", "", "length",
        &["Max sync message length (default=1472)"])),
    within(Section::Daemon, valued(Id::Plain, Opt::McastInterface, "mcast-interface", "", "interface",
        &["multicast interface for connection sync"])),
    within(Section::Daemon, valued(Id::McastGroup, Opt::McastGroup, "mcast-group", "", "address",
        &["IPv4/IPv6 group (default=224.0.0.81)"])),
    within(Section::Daemon, valued(Id::McastPort, Opt::McastPort, "mcast-port", "", "port",
        &["UDP port (default=8848)"])),
    within(Section::Daemon, valued(Id::McastTtl, Opt::McastTtl, "mcast-ttl", "", "ttl",
        &["Multicast TTL (default=1)"])),

    within(Section::Own, switch(Id::FullNat, Opt::Forward, "fullnat", "",
        &["full NAT (source address translated too)"])),
    within(Section::Own, valued(Id::ConnTimeout, Opt::ConnTimeout, "conn-timeout", "", "tcp[:tcpfin[:udp]]",
        &["the service's own connection timeouts,", "0 or none is the one of --set."])),
    within(Section::Own, valued(Id::SynProxy, Opt::SynProxy, "synproxy", "j", "enable|disable",
        &["challenge unknown sources of many TCP SYNs"])),
    within(Section::Own, command(Cmd::AddLocal, "add-laddr", "P", &["add a local address of full NAT, to a service's pool",
        "or, without a service, to the default pool"])),
    within(Section::Own, command(Cmd::DeleteLocal, "del-laddr", "Q", &["delete one"])),
    within(Section::Own, command(Cmd::ListLocals, "get-laddr", "G", &["list them"])),
    within(Section::Own, valued(Id::Local, Opt::Local, "laddr", "z", "address", &["local address"])),
    // What other implementations have it for is no question here: routes say where packets go.
    within(Section::OwnHidden, valued(Id::Plain, Opt::Interface, "ifname", "F", "device", &[])),
    within(Section::Own, plain(Opt::Json, "json", "", &["listings as JSON: see docs/reference/json.md"])),
];
