//! Making the copy: loading it, and giving it what the data plane holds.

use std::path::{Path, PathBuf};

use aya::maps::{Map, MapData, ProgramArray};
use lvs_common::abi::{CHUNK_WORDS, PortKey, Ports};
use lvs_common::programs::Program;

use super::super::birth::Birth;
use super::super::bpffs::{self, Directory};
use super::super::constants::Constants;
use super::super::error::{Context, Error, Result, unfit};
use super::super::extras::Extras;
use super::super::generation::copy_tables;
use super::super::load::{TC_PROGRAMS, idle, load_beside, make_directories};
use super::super::loading::Loading;
use super::super::mapped::{Index, Mapped};
use super::super::pinned::elements;
use super::super::pins;
use super::super::plane::Plane;
use super::super::pod::Pod;
use super::super::sizes::{self, Sizes};
use super::super::syscall;
use super::entries;
use crate::director::Access;
use crate::rules::LogLevel;

/// Maps that are copied element by element, as they are not mapped.
const ELEMENTWISE: [&str; 8] =
    ["SERVICE4", "SERVICE6", "FWMARKS", "PROTECTED", "PATHS", "LOCALITY", "CONFIRMED", "ARRIVALS"];

/// What the kernel overwrites when it reads the map PORTS.
const NO_PORTS: Ports = Ports { taken: 0, pad: 0, bits: [0; CHUNK_WORDS as usize] };

/// Programs that send, or have come in anew, packets beside the one at hand: the kernel does that also in a rehearsal.
const SENDING: [Program; 5] =
    [Program::Split, Program::Join, Program::Release, Program::SendFragment, Program::CarryResets];

/// The pins of a copy, which go with it.
#[derive(Debug)]
pub struct Pins(PathBuf);

impl Drop for Pins {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next rehearsal.
        let _ = pins::remove(&self.0);
    }
}

/// Removes what rehearsals have left that were killed.
pub fn remove_left(directory: &Directory) -> Result<()> {
    let is_left = |name: &String| {
        let process = name.rsplit_once('-').map_or("", |(_, process)| process);
        !Path::new("/proc").join(process).exists()
    };
    for name in directory.all(bpffs::COPY)?.iter().filter(|name| is_left(name)) {
        pins::remove(&directory.sibling(name))?;
    }
    Ok(())
}

/// A copy of a data plane.
pub struct Copied {
    /// Its pins, which have to go before it.
    pub pins: Pins,
    /// Itself.
    pub plane: Plane,
    /// Whether it has the whole connection table, each entry in its place. Else it has a small one, without entries.
    pub is_whole: bool,
    /// The secret of the tables' hash.
    pub secret: u64,
}

/// Whether new connections may find the buckets full that they may stand in. Each may stand in eight: of four buckets three have room.
fn is_crowded(plane: &Plane) -> bool {
    let (buckets, full) = plane.full_buckets();
    full.iter().any(|full| full.saturating_mul(4) >= buckets)
}

/// Makes a copy. Other commands go on while it is loaded, and wait while it is filled.
pub fn of(plane: &mut Plane) -> Result<Copied> {
    remove_left(&plane.directory)?;
    let beside = plane.directory.copy(std::process::id())?;
    let path = beside.path();
    pins::remove(&path)?;
    let pins = Pins(path.clone());
    let is_whole = is_crowded(plane);
    let sizes = Sizes {
        connections: if is_whole { plane.sizes().0 } else { Sizes::SMALL.connections },
        services: plane.services.count(),
        destinations: plane.dests.count(),
        lists: elements(&plane.directory.path().join("LISTS4"))? / 2,
    };
    let (constants, extras) = (Constants::of(&plane.directory.path())?, Extras::of(plane));
    let mut constants = constants.with_log(LogLevel::Off);
    let secret = constants.secret();
    if !is_whole {
        constants.buckets = sizes::buckets(sizes.connections);
    }
    plane.directory.unlock();
    let loading = Loading { sizes, verifier_log: false, log: LogLevel::Off };
    make_directories(&path)?;
    load_beside(&path, &[], &loading, &constants, &Birth::now(1), extras)?;
    idle(sizes.destinations)?.pin(path.join("IDLE")).context("cannot pin map IDLE")?;
    mute(&path)?;
    let copy = match Plane::map(beside)? {
        Ok(copy) => copy,
        Err(_) => return unfit("a copy of the data plane is gone as soon as it was loaded"),
    };
    if !plane.directory.lock_again(Access::Read)? {
        return unfit("another data plane was loaded meanwhile: try again");
    }
    fill(plane, &copy)?;
    if is_whole {
        entries::copy(plane, &copy);
    }
    Ok(Copied { pins, plane: copy, is_whole, secret })
}

/// Takes the programs out that send: tail calls to them fail.
fn mute(directory: &Path) -> Result<()> {
    let context = "cannot open a copied map of programs";
    let map = MapData::from_pin(directory.join(TC_PROGRAMS)).context(context)?;
    let mut array = ProgramArray::try_from(Map::ProgramArray(map)).context(context)?;
    for program in SENDING {
        for is_v4 in [true, false] {
            // One of a family that is not loaded is not there.
            let _ = array.clear_index(&program.slot(is_v4));
        }
    }
    Ok(())
}

/// Gives the copy what the data plane holds, but connections.
fn fill(plane: &Plane, copy: &Plane) -> Result<()> {
    let settings = plane.settings();
    copy.settings.set(0, settings);
    array(&plane.watch, &copy.watch, 1);
    array(&plane.marks, &copy.marks, plane.marks.count());
    array(&plane.services, &copy.services, settings.services_used);
    array(&plane.dests, &copy.dests, settings.dests_used);
    array(&plane.locals, &copy.locals, plane.locals.count());
    array(&plane.devices, &copy.devices, plane.devices.count());
    array(&plane.rosters, &copy.rosters, plane.rosters.count());
    for name in ELEMENTWISE {
        let context = || format!("cannot copy map {name}");
        elements_of(&plane.open_map(name)?, &copy.open_map(name)?).with_context(context)?;
    }
    let context = "cannot copy map PORTS";
    let ports = plane.open_map("PORTS")?;
    let rows = syscall::read(&ports, Pod(PortKey::default()), Pod(NO_PORTS)).context(context)?;
    let (keys, values): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
    syscall::update(&copy.open_map("PORTS")?, &keys, &values).context(context)?;
    let rows: Vec<_> = plane.list_rows()?.into_values().flatten().collect();
    copy.put_rows(&rows).map_err(|error| Error::Unfit(error.to_string().into()))?;
    copy_tables(&plane.directory.path(), &copy.directory.path())
}

/// Copies the first elements of an array.
fn array<T: Copy, I: Index>(from: &Mapped<T, I>, to: &Mapped<T, I>, used: u32) {
    for at in 0..used.min(from.count()).min(to.count()) {
        to.set(I::of(at), from.get(I::of(at)));
    }
}

/// Copies a map's elements. Those that go meanwhile are left out.
fn elements_of(from: &MapData, to: &MapData) -> Result<()> {
    let size = from.info()?.value_size() as usize;
    let (mut at, mut value) = (syscall::next_key(from, None)?, vec![0; size]);
    while let Some(key) = at {
        if syscall::get_bytes(from, &key, &mut value).is_ok() {
            syscall::put_bytes(to, &key, &value)?;
        }
        at = syscall::next_key(from, Some(&key))?;
    }
    Ok(())
}
