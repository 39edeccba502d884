//! How much work the programs are for the verifier of the kernel that runs, and whether that is what `docs/numbers/verifier.md` says.
//! With `LVS_VERIFIER_RECORD=FILE` the table is written there instead, with this kernel's column.

use std::fs;
use std::process::ExitCode;
use std::sync::OnceLock;

use anyhow::{Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use tests::verifier::{Measured, Table, measure, running};

/// Where the table is to be written.
const RECORD: &str = "LVS_VERIFIER_RECORD";

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trial = |name: &str, test: fn() -> Result<()>| {
        Trial::test(name, move || test().map_err(|error| Failed::from(format!("{error:#}"))))
    };
    let little = trial("verifier::every_program_is_little_work", every_program_is_little_work);
    let grown = match std::env::var_os(RECORD) {
        Some(_) => trial("verifier::the_table_is_written", the_table_is_written),
        None => {
            let is_known = running().and_then(|series| Ok(Table::read()?.series().contains(&series)));
            let grown = trial("verifier::no_program_grew", no_program_grew);
            match is_known {
                Ok(false) => grown.with_kind("no column of this kernel").with_ignored_flag(true),
                // An error is the test's.
                _ => grown,
            }
        }
    };
    libtest_mimic::run(&arguments, vec![little, grown]).exit_code()
}

/// What the kernel says, asked once: it takes seconds.
fn measured() -> Result<Measured> {
    static MEASURED: OnceLock<Result<Measured, String>> = OnceLock::new();
    let measured = MEASURED.get_or_init(|| measure().map_err(|error| format!("{error:#}")));
    measured.clone().map_err(anyhow::Error::msg)
}

/// The kernel follows a million instructions of a program at most, and different releases follow different ways.
fn every_program_is_little_work() -> Result<()> {
    const ENOUGH: u32 = 160_000;
    let measured = measured()?;
    ensure!(measured.len() > 100, "only {} programs", measured.len());
    let most = measured.iter().max_by_key(|(_, [work, _])| *work);
    ensure!(most.is_some_and(|(_, [work, _])| *work < ENOUGH), "too much: {most:?}");
    Ok(())
}

fn no_program_grew() -> Result<()> {
    Table::read()?.compare(running()?, &measured()?)
}

fn the_table_is_written() -> Result<()> {
    let mut table = Table::read()?;
    table.set(running()?, &measured()?);
    fs::write(std::env::var_os(RECORD).unwrap_or_default(), table.render()).map_err(Into::into)
}
