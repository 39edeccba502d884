//! The slots of program arrays that lead from one generation to another.

use std::path::Path;

use aya::maps::{Map, MapData, ProgramArray};
use aya::programs::{ProgramFd, SchedClassifier, Xdp};
use aya_obj::programs::XdpAttachType;
use lvs_common::programs::{entry, generation};

use super::super::error::{Context, Result};
use super::super::l3;
use super::super::load::{TC_PROGRAMS, XDP_PROGRAMS};

/// Has the next generation hand packets of unknown connections to the one before.
pub fn lead_back(next: &Path, old: &Path) -> Result<()> {
    let leave = Xdp::from_pin(next.join(entry::XDP_LEAVE), XdpAttachType::Interface)?;
    set(&next.join(XDP_PROGRAMS), generation::PREVIOUS, leave.fd()?)?;
    for (array, _, handed, _) in tiers(next) {
        set(&next.join(array), generation::PREVIOUS, classifier(&old.join(handed))?.fd()?)?;
    }
    Ok(())
}

/// Has the generation before leave new connections to the next one.
pub fn lead_on(old: &Path, next: &Path) -> Result<()> {
    for (array, _, _, returned) in tiers(old) {
        set(&old.join(array), generation::SUCCESSOR, classifier(&next.join(returned))?.fd()?)?;
    }
    Ok(())
}

/// Empties the slots of a generation.
pub fn clear(directory: &Path) -> Result<()> {
    let arrays = tiers(directory).into_iter().map(|(array, ..)| array).chain([XDP_PROGRAMS]);
    for array in arrays {
        let mut array = open(&directory.join(array))?;
        for slot in [generation::PREVIOUS, generation::SUCCESSOR] {
            // One that is empty cannot be emptied.
            let _ = array.clear_index(&slot);
        }
    }
    Ok(())
}

/// The program arrays of TC that a generation has, each with its programs: that which is attached, the one that takes what the next
/// generation hands over, and the one that takes what the generation before returns.
fn tiers(directory: &Path) -> Vec<(&'static str, &'static str, &'static str, &'static str)> {
    let mut tiers = vec![(TC_PROGRAMS, entry::INGRESS, entry::HANDED, entry::RETURNED)];
    if l3::is_loaded(directory) {
        tiers.push((l3::ARRAY, entry::L3_INGRESS, entry::L3_HANDED, entry::L3_RETURNED));
    }
    tiers
}

fn classifier(pin: &Path) -> Result<SchedClassifier> {
    SchedClassifier::from_pin(pin).with_context(|| format!("cannot open program {}", pin.display()))
}

fn open(pin: &Path) -> Result<ProgramArray<MapData>> {
    let context = || format!("cannot open map {}", pin.display());
    let map = MapData::from_pin(pin).with_context(context)?;
    ProgramArray::try_from(Map::ProgramArray(map)).with_context(context)
}

fn set(pin: &Path, slot: u32, program: &ProgramFd) -> Result<()> {
    open(pin)?.set(slot, program, 0).with_context(|| format!("cannot link a program in {}", pin.display()))
}
