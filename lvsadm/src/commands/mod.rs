//! lvsadm's own sub-commands.

pub(crate) mod access;
mod apply;
mod attach;
mod capture;
mod doctor;
mod drain;
mod drain_director;
mod explain;
mod generation;
pub(crate) mod mark;
mod metrics;
mod open;
mod output;
mod run;
pub(crate) mod status;
mod synchronise;
mod sysctl;
mod trace;

pub use open::open;
pub use run::run;
