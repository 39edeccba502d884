//! `synchronise`: a daemon's process.

use anyhow::{Result, bail};

use crate::grammar::{self, Command, Dialect};
use crate::names::SystemNames;
use lvs_director::dataplane;

/// Is the daemon that these words start.
pub fn synchronise(words: &[String]) -> Result<()> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let Ok(Command::StartDaemon(daemon)) = grammar::parse(&words, Dialect::Own, &mut SystemNames::default()) else {
        bail!("synchronise is what `lvsadm --start-daemon' runs: use that");
    };
    Ok(dataplane::synchronise(daemon)?)
}
