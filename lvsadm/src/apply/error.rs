//! Why a line of a rules file is not taken.

use crate::grammar::Failure;
use lvs_director::director::{self, Operation};
use lvs_director::rules::SysctlError;

/// Why a line is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Its options are not those that a command takes.
    #[error(transparent)]
    Options(#[from] Failure),
    /// Its arguments are not those of its sub-command, in clap's words.
    #[error("{0}")]
    Arguments(String),
    /// Its first word is no command.
    #[error("it is no command")]
    NoCommand,
    /// Its command changes nothing that a rules file is about.
    #[error("it configures nothing: a rules file takes -A -E -D -a -e -d -P -Q -C and --set")]
    Command,
    /// Its sub-command changes nothing that a rules file is about.
    #[error(
        "it configures nothing: a rules file takes sysctl, mark add, mark del, mark flush, block, allow, attach and detach"
    )]
    SubCommand,
    /// It sets something that is no setting, or to what is not a value of it.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// It names a setting without a value.
    #[error("`sysctl {0}' sets nothing: it takes NAME=VALUE here")]
    NoValue(String),
    /// Its clients are to be read from another file.
    #[error("a rules file has the clients in it, and takes no other file")]
    OtherFile,
    /// A line before it is about the same traffic.
    #[error("there is a rule about that traffic already")]
    Marked,
    /// The lines before it add no such service.
    #[error("Service not defined")]
    NoService,
    /// A director with the lines before it refuses it.
    #[error("{}", error.text(*operation))]
    Refused {
        /// What was asked of the director.
        operation: Operation,
        /// Why it refuses.
        error: director::Error,
    },
}
