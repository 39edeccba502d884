//! `apply` and `save`: files of rules.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::output::print;
use crate::apply::devices::{self, Device};
use crate::apply::file::{Mistake, Script};
use crate::apply::{Refused, carry_out};
use crate::names::SystemNames;
use crate::render;
use lvs_director::dataplane::{self, Defaults, Loading, Plane, PlaneDirector, Which};
use lvs_director::director::{Access, Director, MemoryDirector, rules};
use lvs_director::rules::AttachMode;
use lvs_director::rules::{Attached, Rule, ServiceKey, difference};

/// Goes from what is configured to what a file wants, or shows the way. With the file that was applied before, services that neither
/// names are others', and stay.
pub fn apply(file: &Path, after: Option<&Path>, dry_run: bool) -> Result<()> {
    let applied = after.map(Script::of_file).transpose()?;
    let (file, text) = read(file)?;
    let defaults = Defaults::read()?;
    let (script, mut mistakes) = Script::read(&text, &mut SystemNames::default());
    let mut unloaded = devices::current(&dataplane::devices()?, &[]);
    mistakes.extend(script.attach(&mut unloaded, &defaults));
    check(&file, mistakes)?;
    let access = if dry_run { Access::Read } else { Access::Change };
    let loaded = dataplane::open(access)?;
    if let Some(plane) = &loaded {
        check(&file, otherwise(&script, plane))?;
    }
    if loaded.is_none() && dry_run {
        // Where nothing is loaded, nothing is configured.
        let before = MemoryDirector::default();
        let mut wanted = script.rules(&before)?;
        wanted.extend(devices::rules(&unloaded));
        return print(&render::changes(&difference(&rules(&before)?, &wanted)));
    }
    let mut plane = match loaded {
        Some(plane) => plane,
        None => dataplane::open_or_load(loading(&script, &defaults))?,
    };
    if !dry_run && !script.names_devices() {
        dataplane::attach_new(&mut plane, &defaults.devices, defaults.mode)?;
    }
    let before = attached(&plane)?;
    let mut wanted = before.clone();
    check(&file, script.attach(&mut wanted, &defaults))?;
    let mut director = PlaneDirector::new(plane);
    let (mut from, mut to) = (rules(&director)?, script.rules(&director)?);
    if let Some(applied) = &applied {
        let is_ours = |service: &ServiceKey| applied.names_service(service) || script.names_service(service);
        let is_others = |rule: &&Rule| rule.service().is_some_and(|service| !is_ours(&service));
        to.extend(from.iter().filter(is_others).cloned());
    }
    from.extend(devices::rules(&before));
    to.extend(devices::rules(&wanted));
    let changes = difference(&from, &to);
    if dry_run {
        director.unlock();
        return print(&render::changes(&changes));
    }
    let mut attach = |director: &mut PlaneDirector, name: &str, attached| {
        attach(director.plane(), name, attached, script.demands(name))
    };
    carry_out(&mut director, &changes, &mut attach).or_else(|Refused { rule, sentence }| {
        match rule.and_then(|rule| script.line(&rule)) {
            Some(line) => check(&file, vec![Mistake { line, sentence }]),
            None => bail!("{}: {sentence}: nothing is changed", file.display()),
        }
    })
}

/// How to load, where the data plane is not.
fn loading(script: &Script, defaults: &Defaults) -> Loading {
    let (mut loading, (room, level)) = (defaults.loading, script.loading());
    loading.sizes = loading.sizes.with_room_for(script.room());
    loading.sizes.connections = room.map_or(loading.sizes.connections, |(_, connections)| connections);
    loading.log = level.map_or(loading.log, |(_, level)| level);
    loading
}

/// Lines that want the data plane loaded otherwise than it is.
fn otherwise(script: &Script, plane: &Plane) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let mut add = |line, is: String, wanted: String, mend: String| {
        let sentence = format!("the data plane is loaded with {is}, not {wanted}: `{mend}` first");
        mistakes.push(Mistake { line, sentence });
    };
    let (room, level) = script.loading();
    if let Some((line, connections)) = room
        && !plane.has_room_for(connections)
    {
        let resize = format!("lvsadm resize --conns {connections}");
        add(line, format!("room for {} connections", plane.sizes().0), connections.to_string(), resize);
    }
    let log = dataplane::log_level(&plane.directory.path());
    if let Some((line, level)) = level
        && level != log
    {
        add(line, format!("its log {}", log.name()), level.name().to_owned(), "lvsadm unload".to_owned());
    }
    mistakes
}

/// The text of a file, or of standard input, and what to call it.
fn read(file: &Path) -> Result<(PathBuf, String)> {
    let (name, bytes) = if file == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes).context("cannot read standard input")?;
        (PathBuf::from("<stdin>"), bytes)
    } else {
        (file.to_owned(), fs::read(file).with_context(|| format!("cannot read {}", file.display()))?)
    };
    Ok((name, String::from_utf8_lossy(&bytes).into_owned()))
}

/// Tells of the mistakes in a file, in the order of its lines; an error if there are any.
fn check(file: &Path, mut mistakes: Vec<Mistake>) -> Result<()> {
    mistakes.sort_by_key(|mistake| mistake.line);
    for mistake in &mistakes {
        eprintln!("{}", mistake.text(file));
    }
    if mistakes.is_empty() { Ok(()) } else { bail!("nothing is changed") }
}

/// The devices as they are attached.
fn attached(plane: &Plane) -> Result<Vec<Device>> {
    Ok(devices::current(&dataplane::devices()?, &dataplane::attachments(plane)?))
}

/// Makes a device what it is to be: as far as it can be, unless that is demanded.
fn attach(plane: &mut Plane, name: &str, attached: Option<Attached>, demanded: bool) -> dataplane::Result<()> {
    let names = [name.to_owned()];
    let which = if demanded { Which::Demanded(&names) } else { Which::Usual(&names) };
    let mode = match attached {
        None => return dataplane::detach(plane, &names),
        Some(Attached::Egress) => return dataplane::attach_loopback(plane),
        Some(Attached::Native) => AttachMode::Native,
        Some(Attached::Generic) => AttachMode::Generic,
        Some(Attached::Tc) => AttachMode::Tc,
    };
    dataplane::attach(plane, which, mode).map(drop)
}

/// Prints everything that is configured, as a file for [`apply`].
pub fn save() -> Result<()> {
    let Some(plane) = dataplane::open(Access::Read)? else {
        bail!("nothing is loaded in this network namespace");
    };
    let defaults = Defaults::read()?;
    let (usual, log) = (defaults.loading, dataplane::log_level(&plane.directory.path()));
    let mut options = String::new();
    if !plane.has_room_for(usual.sizes.connections) {
        options += &format!(" --conns {}", plane.sizes().0);
    }
    if log != usual.log {
        options += &format!(" --log {}", log.name());
    }
    let lines = devices::save(&attached(&plane)?, &defaults, &options);
    let rules = rules(&PlaneDirector::new(plane))?;
    print(&render::full(&lines, &rules))
}
