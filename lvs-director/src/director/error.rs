//! Why a director refuses, by the meaning of the kernel's error numbers, and the sentences ipvsadm says then.

use std::borrow::Cow;
use std::fmt;
use std::io;

/// What to do where a table of the data plane is full.
const NO_ROOM: &str =
    ": the tables of services or destinations are full: make room by `lvsadm resize --services` or `--destinations`";

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// `EEXIST`: there already.
    Exists,
    /// `ENOENT`: no such scheduler, persistence engine or destination.
    NotFound,
    /// `ESRCH`: no such service.
    NoService,
    /// `ERANGE`: a number out of range.
    OutOfRange,
    /// `EINVAL`: not a meaningful configuration, or an address that is not unicast.
    Invalid,
    /// `EPERM`: not allowed.
    Permission,
    /// `ENOMEM`: no room, in memory or in a table.
    NoMemory,
    /// Any other number.
    Os(i32),
    /// A failure that has no number, told in one line.
    Other(String),
}

/// Which operation failed: the same number means different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the operations' own names")]
pub enum Operation {
    AddService,
    EditService,
    DeleteService,
    GetService,
    Flush,
    Zero,
    AddDestination,
    EditDestination,
    DeleteDestination,
    AddLocal,
    DeleteLocal,
    ListLocals,
    Timeouts,
    Connections,
    Restore,
    StartDaemon,
    StopDaemon,
    Daemons,
}

impl Error {
    /// The sentence for the operator.
    pub fn text(&self, operation: Operation) -> Cow<'static, str> {
        use Operation as O;
        Cow::Borrowed(match (self, operation) {
            (Error::Exists, O::AddService) => "Service already exists",
            (Error::Exists, O::StartDaemon) => "Daemon has already run",
            (Error::NoService, O::StopDaemon) => "No daemon is running",
            (Error::Exists, O::AddDestination) => "Destination already exists",
            (Error::Exists, O::AddLocal) => "Local address already exists",
            (Error::NotFound, O::DeleteLocal) => "No such local address",
            (Error::NotFound, O::AddService | O::EditService) => "Scheduler or persistence engine not found",
            (Error::NotFound, O::EditDestination | O::DeleteDestination) => "No such destination",
            (Error::NoService, O::EditService | O::DeleteService | O::GetService | O::ListLocals | O::Zero) => {
                "No such service"
            }
            (
                Error::NoService,
                O::AddDestination | O::EditDestination | O::DeleteDestination | O::AddLocal | O::DeleteLocal,
            ) => "Service not defined",
            (Error::Invalid, O::AddLocal) => {
                "A local address is one that a host can have: not multicast, loopback, ..."
            }
            (Error::Invalid, _) => "Invalid operation.  Possibly wrong module version, address not unicast, ...",
            (Error::Permission, _) => "Permission denied (you must be root)",
            (Error::NoMemory, _) => "Memory allocation problem",
            (Error::Other(message), _) => return Cow::Owned(message.clone()),
            _ => return self.number().map_or(Cow::Borrowed(""), strerror),
        })
    }

    /// As [`Error::text`], with the mend where ipvsadm's words have none.
    pub fn text_and_mend(&self, operation: Operation) -> String {
        let mend = if *self == Error::NoMemory { NO_ROOM } else { "" };
        format!("{}{mend}", self.text(operation))
    }

    /// The kernel's number for it, which only [`Error::Other`] has not.
    pub fn number(&self) -> Option<i32> {
        Some(match self {
            Error::Exists => libc::EEXIST,
            Error::NotFound => libc::ENOENT,
            Error::NoService => libc::ESRCH,
            Error::OutOfRange => libc::ERANGE,
            Error::Invalid => libc::EINVAL,
            Error::Permission => libc::EPERM,
            Error::NoMemory => libc::ENOMEM,
            Error::Os(number) => *number,
            Error::Other(_) => return None,
        })
    }
}

/// The C library's sentence for an error number.
fn strerror(number: i32) -> Cow<'static, str> {
    let text = io::Error::from_raw_os_error(number).to_string();
    // The standard library appends " (os error N)".
    Cow::Owned(text.split(" (os error").next().unwrap_or_default().to_owned())
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Error::Permission,
            Some(libc::ENOMEM) => Error::NoMemory,
            Some(number) => Error::Os(number),
            None => Error::Other(error.to_string()),
        }
    }
}

impl fmt::Display for Error {
    /// Without an operation, so in the C library's words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(Operation::Connections))
    }
}

impl std::error::Error for Error {}
