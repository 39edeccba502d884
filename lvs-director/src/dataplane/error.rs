//! Why the data plane fails.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt::Write;
use std::io;

use aya::EbpfError;
use aya::maps::MapError;
use aya::pin::PinError;
use aya::programs::links::LinkError;
use aya::programs::{ProgramError, TcError, XdpError};
use nix::errno::Errno;

use super::defaults::DefaultsError;
use crate::netlink;

/// What the data plane's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the data plane cannot be had, or does not do what it is asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A step failed.
    #[error("{doing}")]
    Step {
        /// What was tried.
        doing: Cow<'static, str>,
        /// Why it failed.
        #[source]
        cause: Box<Cause>,
    },
    /// A step failed whose cause says what was tried.
    #[error(transparent)]
    Cause(Box<Cause>),
    /// Something that a step needs is not there, or is not what the step needs.
    #[error("{0}")]
    Unfit(Cow<'static, str>),
    /// The defaults make no sense.
    #[error(transparent)]
    Defaults(#[from] DefaultsError),
    /// There is no device of that name.
    #[error("there is no device {0}: see `ip link`")]
    NoDevice(String),
    /// A device's place for XDP is another program's.
    #[error("cannot attach XDP to {device}: {by}; detach it, or use --mode tc")]
    XdpTaken {
        /// The device's name.
        device: String,
        /// The other program.
        by: String,
    },
    /// A device cannot be served, or not so.
    #[error("cannot attach to {device}: {reason}")]
    Unservable {
        /// The device's name.
        device: String,
        /// Why not.
        reason: String,
    },
    /// The program was built without the eBPF objects.
    #[error("this lvsadm was built without its data plane: build it with `cargo xtask build`")]
    NotBuilt,
    /// The kernel refuses a program, for a reason that the verifier gives.
    #[error("Linux {release} refuses program {program}: {reason}")]
    Refused {
        /// The kernel's release.
        release: String,
        /// The program's name.
        program: String,
        /// What the kernel says.
        reason: String,
    },
    /// There is no memory for the data plane.
    #[error(
        "the data plane needs {needed} MiB for its tables, and {meanwhile} MiB while it is loaded; refused by {limit}: raise that, or \
         make the tables smaller with LVS_CONNS, LVS_SERVICES and LVS_DESTINATIONS"
    )]
    NoMemory {
        /// MiB that they need.
        needed: u64,
        /// MiB that loading needs beside that.
        meanwhile: u64,
        /// What refuses it.
        limit: String,
        /// What failed, if it was tried.
        #[source]
        cause: Option<Box<Error>>,
    },
    /// The maps of the namespace's data plane are laid out by another version, which describes them.
    #[error(
        "the data plane is of version {version}, whose maps are {found}, not {ours}: `lvsadm upgrade` moves it to this version"
    )]
    Layout {
        /// The version that loaded it.
        version: String,
        /// The layout of the maps.
        found: String,
        /// The layout of this build.
        ours: String,
    },
    /// The same, and they are not described.
    #[error(
        "the data plane is of another version (its maps are {found}, not {ours}), and does not describe its maps: save the \
         rules with the lvsadm that loaded it, `lvsadm unload`, and load them again"
    )]
    UnknownLayout {
        /// The layout of the maps.
        found: String,
        /// The layout of this build.
        ours: String,
    },
    /// A command of another version was killed while it changed the data plane.
    #[error(
        "an upgrade to another version, whose maps are {found}, was not finished: `lvsadm status` of that version does it"
    )]
    Unfinished {
        /// The layout of the maps that it was changed to.
        found: String,
    },
    /// They are described, but not so that this version could move what they hold.
    #[error(
        "the data plane is of another version, from which this one cannot move it ({why}): save the rules with the lvsadm that \
         loaded it, `lvsadm unload`, and load them again"
    )]
    TooForeign {
        /// Why not.
        why: String,
    },
    /// The data plane was loaded without a log.
    #[error("the data plane was loaded without a log: `lvsadm unload`, then `lvsadm attach --log info`")]
    NoLog,
}

impl Error {
    /// The error with its causes, in one line.
    pub fn line(&self) -> String {
        let mut line = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let _ = write!(line, ": {error}");
            cause = error.source();
        }
        line
    }

    /// The kernel's number for it, if a system call failed.
    pub fn number(&self) -> Option<i32> {
        match self {
            Error::Step { cause, .. } | Error::Cause(cause) => cause.number(),
            Error::XdpTaken { .. } => Some(libc::EBUSY),
            Error::NoMemory { .. } => Some(libc::ENOMEM),
            _ => None,
        }
    }
}

/// Why a step failed: what the kernel, aya or netlink answered.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
#[allow(missing_docs, reason = "the variants are the errors' own names")]
pub enum Cause {
    Io(#[from] io::Error),
    Errno(#[from] Errno),
    Map(#[from] MapError),
    Object(#[from] EbpfError),
    Program(#[from] ProgramError),
    Link(#[from] LinkError),
    Pin(#[from] PinError),
    Tc(#[from] TcError),
    Xdp(#[from] XdpError),
    Netlink(#[from] netlink::Error),
    Log(#[from] aya_log::Error),
    Step(#[from] Box<Error>),
}

impl Cause {
    fn number(&self) -> Option<i32> {
        let mut at: &(dyn StdError + 'static) = match self {
            Cause::Io(error) => error,
            Cause::Errno(error) => error,
            Cause::Map(error) => error,
            Cause::Object(error) => error,
            Cause::Program(error) => error,
            Cause::Link(error) => error,
            Cause::Pin(error) => error,
            Cause::Tc(error) => error,
            Cause::Xdp(error) => error,
            Cause::Log(error) => error,
            Cause::Netlink(netlink::Error::Socket(error) | netlink::Error::Refused(error)) => error,
            Cause::Netlink(_) => return None,
            Cause::Step(error) => return error.number(),
        };
        loop {
            let io = at.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
            if let Some(number) = io.or_else(|| at.downcast_ref::<Errno>().map(|errno| *errno as i32)) {
                return Some(number);
            }
            at = at.source()?;
        }
    }
}

impl From<Error> for Cause {
    fn from(error: Error) -> Self {
        Cause::Step(Box::new(error))
    }
}

macro_rules! causes {
    ($($kind:ty),*) => {$(
        impl From<$kind> for Error {
            fn from(error: $kind) -> Self {
                Error::Cause(Box::new(error.into()))
            }
        }
    )*};
}

causes!(
    io::Error,
    Errno,
    MapError,
    EbpfError,
    ProgramError,
    LinkError,
    PinError,
    TcError,
    XdpError,
    netlink::Error,
    aya_log::Error
);

/// Says what was tried when it fails.
pub trait Context<T> {
    /// With words that are at hand.
    fn context(self, doing: impl Into<Cow<'static, str>>) -> Result<T>;

    /// With words that are made for the purpose.
    fn with_context<S: Into<Cow<'static, str>>>(self, doing: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Cause>> Context<T> for std::result::Result<T, E> {
    fn context(self, doing: impl Into<Cow<'static, str>>) -> Result<T> {
        self.with_context(|| doing)
    }

    fn with_context<S: Into<Cow<'static, str>>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| Error::Step { doing: doing().into(), cause: Box::new(error.into()) })
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, doing: impl Into<Cow<'static, str>>) -> Result<T> {
        self.ok_or_else(|| Error::Unfit(doing.into()))
    }

    fn with_context<S: Into<Cow<'static, str>>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.ok_or_else(|| Error::Unfit(doing().into()))
    }
}

/// The error of something that is not what a step needs.
pub fn unfit<T>(sentence: impl Into<Cow<'static, str>>) -> Result<T> {
    Err(Error::Unfit(sentence.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_causes_and_the_number_is_the_innermost() {
        let inner = Err::<(), _>(Errno::EPERM).context("cannot open map X");
        let error = inner.with_context(|| format!("cannot make a {}", "table")).unwrap_err();
        assert_eq!(error.line(), "cannot make a table: cannot open map X: EPERM: Operation not permitted");
        assert_eq!(error.number(), Some(libc::EPERM));
        let io = Error::from(io::Error::from_raw_os_error(libc::ENOMEM));
        assert_eq!((io.line().as_str(), io.number()), ("Cannot allocate memory (os error 12)", Some(libc::ENOMEM)));
        let absent = None::<()>.context("there is no map Y").unwrap_err();
        assert_eq!((absent.line().as_str(), absent.number()), ("there is no map Y", None));
    }
}
