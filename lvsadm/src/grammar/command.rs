//! What a command line comes to.

use std::net::IpAddr;

use lvs_common::abi::OwnEdits;
use lvs_director::director::Access;
use lvs_director::rules::{Daemon, Destination, DestinationKey, Role, Service, ServiceKey, Timeouts};

/// A service with the names of its scheduler and engine. They may not exist: the director says so after it looked up the
/// service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Everything else; scheduler, engine and the settings of `own` are not filled in.
    pub service: Service,
    /// Name of the scheduler.
    pub scheduler: String,
    /// Name of the persistence engine; empty is none.
    pub engine: String,
    /// Settings that ipvsadm lacks.
    pub own: OwnEdits,
}

/// A checked command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `-A`
    AddService(Named),
    /// `-E`
    EditService(Named),
    /// `-D`
    DeleteService(ServiceKey),
    /// `-C`
    Flush,
    /// `-L`
    List {
        /// What is to be shown.
        list: List,
        /// `--json`
        json: bool,
    },
    /// `-a`
    AddDestination(ServiceKey, Destination),
    /// `-e`
    EditDestination(ServiceKey, Destination),
    /// `-d`
    DeleteDestination(ServiceKey, DestinationKey),
    /// `--add-laddr`, to a service's local addresses or to the default pool.
    AddLocal(Option<ServiceKey>, IpAddr),
    /// `--del-laddr`
    DeleteLocal(Option<ServiceKey>, IpAddr),
    /// `--get-laddr`
    ListLocals {
        /// Only this one's.
        service: Option<ServiceKey>,
        /// `--json`
        json: bool,
    },
    /// `--set`
    SetTimeouts(Timeouts),
    /// `--start-daemon`
    StartDaemon(Daemon),
    /// `--stop-daemon`
    StopDaemon(Role),
    /// `-R`
    Restore,
    /// `-S`
    Save {
        /// `-n`
        numeric: bool,
    },
    /// `-Z`
    Zero(Option<ServiceKey>),
    /// `-h`
    Help,
    /// `-v`
    Version,
}

impl Command {
    /// What it does with the director.
    pub fn access(&self) -> Access {
        match self {
            Command::List { .. } | Command::ListLocals { .. } | Command::Save { .. } => Access::Read,
            Command::Help | Command::Version => Access::Read,
            _ => Access::Change,
        }
    }
}

/// What `-L` is to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// `--timeout`
    Timeouts,
    /// `--daemon`
    Daemons,
    /// `-c`
    Connections {
        /// `-n`
        numeric: bool,
        /// `--persistent-conn`
        engines: bool,
    },
    /// Services and destinations.
    Services {
        /// Only this one.
        service: Option<ServiceKey>,
        /// The columns.
        mode: Mode,
        /// `--stats`, which JSON can have beside `--rate`.
        statistics: bool,
        /// `--rate`
        rates: bool,
        /// `-n`
        numeric: bool,
        /// `--exact`
        exact: bool,
        /// Not `--nosort`
        sorted: bool,
    },
}

/// The columns of a listing. Of several, ipvsadm shows the first in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `--stats`
    Statistics,
    /// `--rate`
    Rates,
    /// `--thresholds`
    Thresholds,
    /// `--persistent-conn`
    Persistent,
    /// `--tun-info`
    Tunnels,
    /// Weights and connections.
    Default,
}

/// A command line that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It does not begin with a command: the hint to read the help, exit status 255.
    #[error("it begins with no command")]
    NoCommand,
    /// popt's complaint about an option, exit status 255. A restore goes on with the next line.
    #[error("{}", .0.trim_end())]
    Option(String),
    /// Anything else that is wrong, exit status 2.
    #[error("{}", .0.trim_end())]
    Usage(String),
}

impl Failure {
    /// A usage error.
    pub(super) fn usage<T>(sentence: impl Into<String>) -> Result<T, Failure> {
        Err(Failure::Usage(sentence.into()))
    }
}
