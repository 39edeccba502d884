//! Links go from the programs of one generation to those of another, one step for each link.

use std::collections::HashMap;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};

use aya::programs::tc::SchedClassifierLink;
use aya::programs::{SchedClassifier, TcAttachType, Xdp};
use aya_obj::programs::XdpAttachType;
use lvs_common::programs::entry;

use super::super::clsact::{HANDLE, PRIORITY};
use super::super::devices::{self, Headers};
use super::super::error::{Context, Error, Result, unfit};
use super::super::link;
use super::super::pins::is_alive;

/// Attached programs.
const ATTACHED: [&str; 5] = [entry::XDP, entry::INGRESS, entry::EGRESS, entry::L3_INGRESS, entry::L3_EGRESS];

/// A program of a generation.
enum Attached {
    Xdp(Xdp),
    Classifier(SchedClassifier),
}

impl Attached {
    fn open(directory: &Path, name: &str) -> Result<Self> {
        let pin = directory.join(name);
        let context = || format!("cannot open program {name}");
        Ok(match name {
            entry::XDP => Attached::Xdp(Xdp::from_pin(pin, XdpAttachType::Interface).with_context(context)?),
            _ => Attached::Classifier(SchedClassifier::from_pin(pin).with_context(context)?),
        })
    }

    fn number(&self) -> Result<u32> {
        Ok(match self {
            Attached::Xdp(program) => program.info()?.id(),
            Attached::Classifier(program) => program.info()?.id(),
        })
    }

    fn descriptor(&self) -> Result<RawFd> {
        Ok(match self {
            Attached::Xdp(program) => program.fd()?.as_fd().as_raw_fd(),
            Attached::Classifier(program) => program.fd()?.as_fd().as_raw_fd(),
        })
    }
}

/// Has every link that runs programs of `from` run those of `to`. Links that do so already stay; links of devices that are gone
/// are left alone.
pub fn switch(links: &Path, from: &Path, to: &Path) -> Result<()> {
    let names: Vec<&str> = ATTACHED.into_iter().filter(|name| from.join(name).exists()).collect();
    let mut numbers = HashMap::new();
    for name in names {
        numbers.insert(Attached::open(from, name)?.number()?, Attached::open(to, name)?);
    }
    for (name, path, is_note) in entries(links)? {
        if is_note {
            replace_filter(&name, to)?;
            continue;
        }
        let Some(program) = link::program(&path).and_then(|number| numbers.get(&number)) else { continue };
        match link::update(&path, program.descriptor()?) {
            // The device is gone, or goes.
            Err(error) if !is_alive(&path) || error.raw_os_error() == Some(libc::ENOLINK) => {}
            result => result.with_context(|| format!("cannot replace the program of link {name}"))?,
        }
    }
    Ok(())
}

/// Pins the links of one generation in the directory of another as well.
pub fn share(from: &Path, to: &Path) -> Result<()> {
    for (name, path, is_note) in entries(from)? {
        let other = to.join(&name);
        if !is_note && !other.exists() {
            link::pin_again(&path, &other).with_context(|| format!("cannot pin link {name}"))?;
        }
    }
    Ok(())
}

/// What is in a directory of links: the name, the path, and whether it is a note instead of a link.
fn entries(links: &Path) -> Result<Vec<(String, PathBuf, bool)>> {
    let context = "cannot read a directory of pins";
    let mut entries = Vec::new();
    for entry in fs::read_dir(links).context(context)? {
        let entry = entry.context(context)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        entries.push((name, entry.path(), entry.file_type().context(context)?.is_dir()));
    }
    Ok(entries)
}

/// Replaces the program of a TC filter, where the kernel has no links for it: the note's name says which.
fn replace_filter(note: &str, to: &Path) -> Result<()> {
    let Some((hook, index)) = note.rsplit_once('-') else { return Ok(()) };
    let direction = match hook {
        "ingress" => TcAttachType::Ingress,
        "egress" => TcAttachType::Egress,
        // A note about a device that is detached, or was refused.
        _ => return Ok(()),
    };
    let devices = devices::links()?;
    let Some(device) = devices.iter().find(|device| device.index.to_string() == index) else { return Ok(()) };
    let name = match (direction, device.headers == Headers::Ip) {
        (TcAttachType::Ingress, false) => entry::INGRESS,
        (TcAttachType::Ingress, true) => entry::L3_INGRESS,
        (_, false) => entry::EGRESS,
        (_, true) => entry::L3_EGRESS,
    };
    let Attached::Classifier(mut program) = Attached::open(to, name)? else {
        return unfit(format!("program {name} is of another type"));
    };
    let context = || format!("cannot replace the program of {}'s {hook}", device.name);
    let link = SchedClassifierLink::attached(&device.name, direction, PRIORITY, HANDLE, None).with_context(context)?;
    let id = program.attach_to_link(link).map_err(Error::from).with_context(context)?;
    // The filter is the kernel's; the link would take it away.
    std::mem::forget(program.take_link(id)?);
    Ok(())
}
