//! `lvsadm doctor`.

use clap::Args;

/// What to tell, and whom to ask.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct DoctorArgs {
    /// As JSON: see docs/reference/json.md
    #[arg(long)]
    pub json: bool,
    /// Tell also of what is well
    #[arg(long, conflicts_with = "json")]
    pub all: bool,
    /// Look at this host alone: send no question to real servers and neighbours
    #[arg(long)]
    pub quiet: bool,
}
