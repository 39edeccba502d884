//! lvsadm's own sub-commands.

mod access;
mod apply;
mod attach;
mod doctor;
mod drain;
mod drain_director;
mod explain;
mod generation;
mod mark;
mod metrics;
mod open;
mod output;
mod run;
mod status;
mod synchronise;
mod sysctl;

pub use open::open;
pub use run::run;
