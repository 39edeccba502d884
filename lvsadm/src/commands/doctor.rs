//! `doctor`: what is wrong.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::doctor;
use crate::grammar::subcommands::DoctorArgs;
use lvs_director::dataplane;
use lvs_director::director::Access;

/// Examines the data plane and its surroundings. The exit status says how bad it is.
pub fn doctor(arguments: &DoctorArgs) -> Result<ExitCode> {
    let Some(plane) = dataplane::open(Access::Read)? else {
        bail!("nothing is loaded in this network namespace: `lvsadm attach` or a first rule loads it");
    };
    let findings = doctor::examine(&doctor::collect(plane, !arguments.quiet)?);
    let text = if arguments.json { doctor::json(&findings) } else { doctor::text(&findings, arguments.all) };
    super::output::print(&text)?;
    Ok(ExitCode::from(doctor::status(&findings)))
}
