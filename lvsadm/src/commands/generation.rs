//! `resize`, `upgrade`: another generation of the data plane takes the place of the one that runs.

use anyhow::{Result, bail};

use lvs_director::dataplane::{self, Change, Defaults};
use lvs_director::director::Access;

/// Makes room for so many connections.
pub fn resize(connections: u32) -> Result<()> {
    change(Change::Connections(connections))
}

/// Replaces the programs by those of this build.
pub fn upgrade() -> Result<()> {
    change(Change::Programs)
}

/// Makes a change, and reports it in a line.
fn change(change: Change) -> Result<()> {
    let verifier_log = Defaults::read()?.loading.verifier_log;
    let Some(plane) = dataplane::open(Access::Change)? else {
        bail!("nothing is loaded in this network namespace: `lvsadm attach` loads the data plane");
    };
    let outcome = dataplane::change(plane, change, verifier_log)?;
    let milliseconds = outcome.took.as_millis();
    println!("{} entries of the connection table moved in {milliseconds} ms, {} lost", outcome.moved, outcome.lost);
    Ok(())
}
