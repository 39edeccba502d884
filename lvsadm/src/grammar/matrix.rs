//! Which options a command requires, allows and excludes.

use lvs_common::abi::tunnel::{self, Port, TunnelForm, TunnelKind};

use super::command::Failure;

/// The commands, in the order of the matrix's columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the commands' own names")]
pub enum Cmd {
    AddService,
    EditService,
    DeleteService,
    Flush,
    List,
    AddServer,
    DeleteServer,
    EditServer,
    Set,
    StartDaemon,
    StopDaemon,
    Restore,
    Save,
    Zero,
    AddLocal,
    DeleteLocal,
    ListLocals,
}

/// Names of the commands in messages.
const COMMANDS: [&str; 17] = [
    "add-service",
    "edit-service",
    "delete-service",
    "flush",
    "list",
    "add-server",
    "delete-server",
    "edit-server",
    "set",
    "start-daemon",
    "stop-daemon",
    "restore",
    "save",
    "zero",
    "add-laddr",
    "del-laddr",
    "get-laddr",
];

/// The options that are counted and checked, in the order in which they are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the options' own names")]
pub enum Opt {
    Numeric,
    Connection,
    Service,
    Scheduler,
    Persistent,
    Netmask,
    RealServer,
    Forward,
    Weight,
    Upper,
    Lower,
    McastInterface,
    Timeout,
    Daemon,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    NoSort,
    SyncId,
    Exact,
    Ops,
    Engine,
    SchedFlags,
    McastGroup,
    McastPort,
    McastTtl,
    SyncMaxLen,
    TunInfo,
    TunType,
    TunPort,
    TunNoCsum,
    TunCsum,
    TunRemCsum,
    Json,
    ConnTimeout,
    SynProxy,
    Local,
    Interface,
}

/// An option's name in messages, and for each command whether it requires the option (`+`), allows it (`o`), allows one
/// of those marked `1` at most, or does not take it (`.`).
///
/// The columns: add-service, edit-service, delete-service, flush, list, add-server, delete-server, edit-server, set,
/// start-daemon, stop-daemon, restore, save, zero, add-laddr, del-laddr, get-laddr.
#[rustfmt::skip]
const MATRIX: [(&str, &[u8; 17]); 39] = [
    //                      AEDCLadeSssRSZPQG
    ("numeric",           b"....o.......o...o"),
    ("connection",        b"....1............"),
    ("service-address",   b"+++.1+++.....oooo"),
    ("scheduler",         b"oo..............."),
    ("persistent",        b"oo..............."),
    ("netmask",           b"oo..............."),
    ("real-server",       b".....+++........."),
    ("forwarding-method", b".....o.o........."),
    ("weight",            b".....o.o........."),
    ("u-threshold",       b".....o.o........."),
    ("l-threshold",       b".....o.o........."),
    ("mcast-interface",   b".........o......."),
    ("timeout",           b"....1............"),
    ("daemon",            b"....1............"),
    ("stats",             b"....o............"),
    ("rate",              b"....o............"),
    ("thresholds",        b"....o............"),
    ("persistent-conn",   b"....o............"),
    ("nosort",            b"....o............"),
    ("syncid",            b"....o....oo......"),
    ("exact",             b"....o............"),
    ("ops",               b"oo..............."),
    ("pe",                b"oo..............."),
    ("sched-flags",       b"oo..............."),
    ("mcast-group",       b".........o......."),
    ("mcast-port",        b".........o......."),
    ("mcast-ttl",         b".........o......."),
    ("sync-maxlen",       b".........o......."),
    ("tun-info",          b"....o............"),
    ("tun-type",          b".....o.o........."),
    ("tun-port",          b".....o.o........."),
    ("tun-nocsum",        b".....o.o........."),
    ("tun-csum",          b".....o.o........."),
    ("tun-remcsum",       b".....o.o........."),
    ("json",              b"....o...........o"),
    ("conn-timeout",      b"oo..............."),
    ("synproxy",          b"oo..............."),
    ("laddr",             b"..............++."),
    ("ifname",            b"..............oo."),
];

/// The options that a kind of tunnel takes, each with its rule as [`MATRIX`] has it for commands.
fn tunnel_options(form: &TunnelForm) -> [(Opt, u8); 4] {
    let port = match form.port {
        Port::None => b'.',
        Port::Required => b'+',
        Port::Usual(_) => b'o',
    };
    let takes = |flags| if form.flags & flags != 0 { b'1' } else { b'.' };
    [
        (Opt::TunPort, port),
        (Opt::TunNoCsum, takes(u8::MAX)),
        (Opt::TunCsum, takes(tunnel::CSUM)),
        (Opt::TunRemCsum, takes(tunnel::REMCSUM)),
    ]
}

/// The options a command line had.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options(u64);

impl Options {
    /// Whether it had this one.
    pub fn has(self, option: Opt) -> bool {
        self.0 & 1 << option as u32 != 0
    }

    /// Whether it had one of these.
    pub fn any(self, options: &[Opt]) -> bool {
        options.iter().any(|&option| self.has(option))
    }

    /// Notes an option, which may come once.
    pub fn set(&mut self, option: Opt) -> Result<(), Failure> {
        if self.has(option) {
            return Failure::usage(format!("multiple '{}' options specified", MATRIX[option as usize].0));
        }
        self.0 |= 1 << option as u32;
        Ok(())
    }

    /// Checks them against the command.
    pub fn check(self, command: Cmd) -> Result<(), Failure> {
        let column = command as usize;
        let rows = MATRIX.iter().enumerate().map(|(index, row)| (row.0, row.1[column], self.0 >> index & 1 != 0));
        check(rows, COMMANDS[column], "command")
    }

    /// Checks the tunnel options against the tunnel's kind.
    pub fn check_tunnel(self, kind: TunnelKind) -> Result<(), Failure> {
        let form = kind.form();
        let rows = tunnel_options(form).into_iter();
        check(rows.map(|(option, rule)| (MATRIX[option as usize].0, rule, self.has(option))), form.name, "tunnel type")
    }
}

/// Goes through options (name, rule, given) and stops at the first that is not as `subject`, a `what`, demands.
fn check<'a>(rows: impl Iterator<Item = (&'a str, u8, bool)>, subject: &str, what: &str) -> Result<(), Failure> {
    let mut exclusive = None;
    for (name, rule, given) in rows {
        match (rule, given) {
            (b'+', false) => {
                return Failure::usage(format!("You need to supply the '{name}' option for the '{subject}' {what}"));
            }
            (b'.', true) => {
                return Failure::usage(format!("Illegal '{name}' option with the '{subject}' {what}"));
            }
            (b'1', true) => {
                if let Some(earlier) = exclusive.replace(name) {
                    return Failure::usage(format!(
                        "The option '{name}' conflicts with the '{earlier}' option in the '{subject}' {what}"
                    ));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnels_take_the_options_of_their_kind() {
        let rules = |kind: TunnelKind| tunnel_options(kind.form()).map(|(_, rule)| rule);
        assert_eq!(rules(TunnelKind::IPIP), *b"....");
        assert_eq!(rules(TunnelKind::GUE), *b"+111");
        assert_eq!(rules(TunnelKind::GRE), *b".11.");
        assert_eq!(rules(TunnelKind::VXLAN), *b"o11.");
    }

    #[test]
    fn the_last_row_is_the_last_option() {
        assert_eq!(MATRIX[Opt::Interface as usize].0, "ifname");
        assert_eq!(COMMANDS[Cmd::ListLocals as usize], "get-laddr");
    }
}
