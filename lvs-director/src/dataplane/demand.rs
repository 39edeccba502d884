//! Has programs loaded when something needs them first: XDP's, for the first device that takes them, those of IPv6, for the first
//! rule with such an address, and those of VLANs, for the first one on a device with XDP.

use std::path::Path;

use aya::EbpfLoader;
use aya::maps::{Map, MapData, ProgramArray};
use aya::programs::Program;
use aya_obj::Object;
use lvs_common::abi::extras::{IPV6, VLANS};
use lvs_common::programs::{self, PROGRAMS, Row, entry};

use super::constants::Constants;
use super::error::{Context, Result};
use super::extras::Extras;
use super::l3;
use super::load::{TC_PROGRAMS, XDP_PROGRAMS, fd, load_programs};
use super::observe::put_back;
use super::plane::Plane;
use crate::objects::{DIRECTOR, L3};

impl Plane {
    /// Has the programs of IPv6, if that is a rule's family.
    pub fn need_family(&mut self, is_v6: bool) -> Result<()> {
        // Asked for each service and real server of a file, so without a system call.
        if !is_v6 || self.settings().extras & IPV6 != 0 {
            return Ok(());
        }
        put_back::withdraw(&self.directory)?;
        let present = Extras::of(self);
        let directory = self.directory.path();
        let (wanted, constants) = (Extras { ipv6: true, ..present }, Constants::of(&directory)?);
        add(&directory, present, wanted, &constants)?;
        if l3::is_loaded(&directory) {
            let arrays = [(TC_PROGRAMS, l3::ARRAY, tc as Functions)];
            add_from(L3, &arrays, &directory, present, wanted, &constants)?;
        }
        // Packets of IPv6 come in from now on.
        self.set(|s| s.extras |= IPV6);
        Ok(())
    }

    /// Has XDP's programs for frames with VLANs' tags.
    pub fn need_vlans(&mut self) -> Result<()> {
        if self.settings().extras & VLANS != 0 {
            return Ok(());
        }
        put_back::withdraw(&self.directory)?;
        let present = Extras::of(self);
        let directory = self.directory.path();
        add(&directory, present, Extras { vlans: true, ..present }, &Constants::of(&directory)?)?;
        self.set(|s| s.extras |= VLANS);
        Ok(())
    }

    /// Has XDP's programs.
    pub fn need_xdp(&self) -> Result<()> {
        let present = Extras::of(self);
        if present.xdp {
            return Ok(());
        }
        put_back::withdraw(&self.directory)?;
        let directory = self.directory.path();
        add(&directory, present, Extras { xdp: true, ..present }, &Constants::of(&directory)?)
    }
}

/// The functions that a row of the table has in a program array.
type Functions = fn(&Row) -> &'static [&'static str];

fn xdp(row: &Row) -> &'static [&'static str] {
    row.xdp
}

/// TC's.
fn tc(row: &Row) -> &'static [&'static str] {
    row.tc
}

/// Loads what the data plane of a directory lacks.
fn add(directory: &Path, present: Extras, wanted: Extras, constants: &Constants) -> Result<()> {
    let arrays = [(XDP_PROGRAMS, XDP_PROGRAMS, xdp as Functions), (TC_PROGRAMS, TC_PROGRAMS, tc as Functions)];
    add_from(DIRECTOR, &arrays, directory, present, wanted, constants)
}

/// Loads an object's programs that the data plane of a directory lacks, and puts them into the program arrays: their names in the
/// object, their pins, and their functions.
fn add_from(
    bytes: &[u8],
    arrays: &[(&str, &str, Functions)],
    directory: &Path,
    present: Extras,
    wanted: Extras,
    constants: &Constants,
) -> Result<()> {
    let is_new = |name: &str| wanted.have(name) && !present.have(name);
    let names = Object::parse(bytes).ok().context("the embedded object is no object")?.maps;
    let mut loader = EbpfLoader::new();
    constants.override_in(&mut loader);
    // Read-only data is the object's own.
    for name in names.keys().filter(|name| !name.starts_with('.')) {
        let pin = arrays.iter().find(|(array, ..)| array == name).map_or(name.as_str(), |(_, pin, _)| pin);
        loader.map_pin_path(name, directory.join(pin));
    }
    let mut object = loader.load(bytes).context("the kernel refuses programs for the data plane's maps")?;
    load_programs(&mut object, false, is_new)?;
    for (_, pin, functions) in arrays {
        let path = directory.join(pin);
        let map = MapData::from_pin(&path).with_context(|| format!("cannot open map {pin}"))?;
        let mut array = ProgramArray::try_from(Map::ProgramArray(map))?;
        for (number, row) in PROGRAMS.iter().enumerate() {
            for (slot, name) in programs::slots(number, functions(row)).filter(|(_, name)| is_new(name)) {
                let program = object.program(name).with_context(|| format!("the object has no program {name}"))?;
                array.set(slot, fd(name, program)?, 0).with_context(|| format!("cannot link program {name}"))?;
            }
        }
    }
    // The sign that they are there, so it is last.
    if is_new(entry::XDP)
        && let Some(Program::Xdp(program)) = object.program_mut(entry::XDP)
    {
        program.pin(directory.join(entry::XDP)).context("cannot pin program lvs_xdp")?;
    }
    Ok(())
}
