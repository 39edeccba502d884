//! `resize`, `upgrade`: another generation of the data plane takes the place of the one that runs.

use anyhow::{Result, bail};

use lvs_director::dataplane::{self, Change, Defaults};

/// Makes room for so many connections, services or destinations.
pub fn resize(connections: Option<u32>, services: Option<u32>, destinations: Option<u32>) -> Result<()> {
    change(Change::Room { connections, services, destinations })
}

/// Replaces the programs by those of this build, and moves what the maps hold if they are of another layout.
pub fn upgrade() -> Result<()> {
    change(Change::Programs)
}

/// Makes a change, and reports it in a line.
fn change(change: Change) -> Result<()> {
    let verifier_log = Defaults::read()?.loading.verifier_log;
    let Some(outcome) = dataplane::change(change, verifier_log)? else {
        bail!("nothing is loaded in this network namespace: `lvsadm attach` loads the data plane");
    };
    for what in &outcome.left {
        eprintln!("lvsadm: not taken over: {what}");
    }
    let milliseconds = outcome.took.as_millis();
    println!("{} entries of the connection table moved in {milliseconds} ms, {} lost", outcome.moved, outcome.lost);
    Ok(())
}
