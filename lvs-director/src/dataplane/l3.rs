//! The programs for devices without Ethernet headers: an object of their own, which is loaded beside the data plane when the first
//! such device is attached.

use std::fs;
use std::path::Path;

use aya::EbpfLoader;
use aya::programs::Program;
use aya_obj::Object;
use lvs_common::programs::entry;

use super::constants::Constants;
use super::error::{Context, Error, Result, unfit};
use super::extras::Extras;
use super::load::{TC_PROGRAMS, link_tier, load_programs};
use super::observe::put_back;
use super::plane::Plane;
use crate::objects::L3;

/// The pin of the program array.
pub const ARRAY: &str = "L3_PROGRAMS";

/// The programs that are pinned.
const PROGRAMS: [&str; 4] = [entry::L3_INGRESS, entry::L3_EGRESS, entry::L3_HANDED, entry::L3_RETURNED];

/// Whether the programs are loaded beside the data plane of a directory.
pub fn is_loaded(directory: &Path) -> bool {
    PROGRAMS.iter().all(|name| directory.join(name).exists())
}

/// Loads the programs, unless they are loaded.
pub fn load(plane: &Plane) -> Result<()> {
    let directory = plane.directory.path();
    if is_loaded(&directory) {
        return Ok(());
    }
    put_back::withdraw(&plane.directory)?;
    load_into(&directory, &Constants::of(&directory)?, Extras::of(plane))
}

/// Loads the programs beside the data plane of a directory, which has these constants and extras.
pub fn load_into(directory: &Path, constants: &Constants, extras: Extras) -> Result<()> {
    let pins = PROGRAMS.map(|name| directory.join(name));
    if L3.is_empty() {
        return Err(Error::NotBuilt);
    }
    let names = Object::parse(L3).ok().context("the object for devices without Ethernet headers is no object")?.maps;
    let mut loader = EbpfLoader::new();
    constants.override_in(&mut loader);
    // Read-only data is the object's own, and so is the array of its programs.
    for name in names.keys().filter(|name| !name.starts_with('.') && *name != TC_PROGRAMS) {
        loader.map_pin_path(name, directory.join(name));
    }
    let mut object = loader.load(L3).context("the kernel refuses the programs for devices without Ethernet headers")?;
    load_programs(&mut object, false, |name| extras.have(name))?;
    let array = link_tier(&mut object, TC_PROGRAMS, |row| row.tc, extras)?;
    // What a command that was killed left.
    for pin in pins.iter().chain([&directory.join(ARRAY)]).filter(|pin| pin.exists()) {
        fs::remove_file(pin).context("cannot remove a pin")?;
    }
    array.pin(directory.join(ARRAY)).context("cannot pin map L3_PROGRAMS")?;
    for (name, pin) in PROGRAMS.iter().zip(&pins) {
        match object.program_mut(name).with_context(|| format!("the object has no program {name}"))? {
            Program::SchedClassifier(program) => program.pin(pin),
            _ => return unfit(format!("program {name} is of another type")),
        }
        .with_context(|| format!("cannot pin program {name}"))?;
    }
    Ok(())
}
