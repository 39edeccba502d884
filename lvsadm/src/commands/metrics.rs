//! `metrics`: what there is to count, for Prometheus.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::render::{self, Metrics};
use lvs_director::dataplane::{self, Defence, PlaneDirector};
use lvs_director::director::{Access, Director, Wanted};

/// Writes metrics to standard output, or to a file that is replaced when the new one is whole.
pub fn metrics(output: Option<&Path>) -> Result<()> {
    let Some(plane) = dataplane::open(Access::Read)? else {
        bail!("nothing is loaded in this network namespace: there is nothing to count");
    };
    let exits: Vec<_> = plane.exits()?.into_iter().map(|(exit, _, packets)| (exit, packets)).collect();
    let defence = Defence::of(&plane);
    let fragments = plane.fragments()?;
    let (sync, daemons) = (plane.sync(), plane.daemons()?);
    let advertised = plane.advertisement()?;
    let mut director = PlaneDirector::new(plane);
    let lists = super::access::sizes(&director)?;
    director.unlock();
    let total = director.plane().total_counted();
    let services = director.services(Wanted { destinations: true, statistics: true, rates: true })?;
    drop(director);
    let text = render::metrics(Metrics {
        services: &services,
        total,
        exits: &exits,
        defence: &defence,
        lists: &lists,
        fragments,
        sync: &sync,
        daemons: &daemons,
        advertised: advertised.as_ref(),
    });
    match output {
        Some(file) => replace(file, &text).with_context(|| format!("cannot write {}", file.display())),
        None => super::output::print(&text),
    }
}

/// Replaces a file: who reads it finds the old text or the new.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    let name = file.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let draft: PathBuf = file.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = File::create(&draft).and_then(|mut file| file.write_all(text.as_bytes()));
    written.and_then(|()| fs::rename(&draft, file)).inspect_err(|_| drop(fs::remove_file(&draft)))
}
