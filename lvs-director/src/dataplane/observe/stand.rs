//! The observed programs of a data plane: loading them, and having packets come to them and to the data plane's own again.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use aya::maps::{MapData, ProgramArray};
use aya::{Ebpf, EbpfLoader, GlobalData};
use aya_obj::Object;
use lvs_common::abi::observe::{Gate, MOST, Wanted};
use lvs_common::programs::{PROGRAMS, Program, Row, entry};

use super::super::constants::Constants;
use super::super::cpus;
use super::super::error::{Context, Error, Result, unfit};
use super::super::extras::Extras;
use super::super::generation::links;
use super::super::l3;
use super::super::load::{TC_PROGRAMS, XDP_PROGRAMS, fd, link_tier, load_programs};
use super::super::pins::{self, remove};
use super::super::plane::Plane;
use super::classic::Classic;
use super::program::{self, Linked};
use super::put_back::{LOST, collect, observer, withdraw};
use crate::director::Access;
use crate::objects::{DIRECTOR, L3, OBSERVE};
use crate::rules::LogLevel;

/// The data plane's maps that the observing programs read.
const SHARED: [&str; 3] = ["EXITS", "REQUESTS", "LINES"];
/// The place in an array of gates of the program that writes the log.
const LOG: u32 = Gate::ALL.len() as u32;

/// Programs of a tier.
struct Tier {
    /// The object's array of its programs, and the array's pin.
    array: &'static str,
    pin: &'static str,
    functions: fn(&Row) -> &'static [&'static str],
    /// The array of gates of the observing object.
    gates: &'static str,
    /// Attached programs, with those that observe what comes to them.
    attached: &'static [(Gate, &'static str, &'static str)],
    /// The program that writes the log, and the one in its place.
    log: (&'static str, &'static str),
}

const XDP: Tier = Tier {
    array: XDP_PROGRAMS,
    pin: XDP_PROGRAMS,
    functions: |row| row.xdp,
    gates: "XDP_GATES",
    attached: &[(Gate::Xdp, entry::XDP, "observe_xdp")],
    log: ("lvs_xdp_log", "observe_xdp_line"),
};
const TC: Tier = Tier {
    array: TC_PROGRAMS,
    pin: TC_PROGRAMS,
    functions: |row| row.tc,
    gates: "TC_GATES",
    attached: &[(Gate::Ingress, entry::INGRESS, "observe_ingress"), (Gate::Egress, entry::EGRESS, "observe_egress")],
    log: (entry::LOG, "observe_line"),
};
const BARE: Tier = Tier {
    array: TC_PROGRAMS,
    pin: l3::ARRAY,
    functions: |row| row.tc,
    gates: "L3_GATES",
    attached: &[
        (Gate::L3Ingress, entry::L3_INGRESS, "observe_l3_ingress"),
        (Gate::L3Egress, entry::L3_EGRESS, "observe_l3_egress"),
    ],
    log: (entry::LOG, "observe_l3_line"),
};

/// What is to be observed.
#[derive(Clone, Debug)]
pub struct Wish {
    /// A filter of frames with Ethernet headers; all match without one.
    pub frames: Option<Classic>,
    /// The same for packets without.
    pub packets: Option<Classic>,
    /// Exits, by their bits: packets that leave by another are left out.
    pub exits: u64,
    /// Bytes of a packet as it left; [`MOST`] at most.
    pub snap: u32,
    /// Whether a packet is reported as it came, too, with so many bytes. Without, its first bytes are in the report of its leaving.
    pub came: bool,
    /// Bytes of memory for reports: a power of two, and pages.
    pub memory: u32,
}

/// Loads the observed programs of a data plane, under its lock, and has packets come to them. Other commands go on while they are loaded.
/// The observing object's maps, and the directory of pins.
pub fn raise(plane: &mut Plane, wish: &Wish) -> Result<(Ebpf, PathBuf)> {
    if !collect(&plane.directory)? {
        let process = observer(&plane.directory)?.unwrap_or_default();
        return unfit(format!("process {process} observes packets already: end it first"));
    }
    let stand = plane.directory.watch(std::process::id());
    let before = (Extras::of(plane), l3::is_loaded(&plane.directory.path()));
    fs::create_dir(&stand).context("cannot create a directory of pins")?;
    plane.directory.unlock();
    let built = build(plane, &stand, wish, before);
    let result = built.and_then(|object| {
        let is_same = plane.directory.lock_again(Access::Change)?;
        if !is_same || before != (Extras::of(plane), l3::is_loaded(&plane.directory.path())) {
            return unfit("the data plane was changed meanwhile: try again");
        }
        links::switch(&plane.directory.path().join("links"), &plane.directory.path(), &stand)?;
        Ok(object)
    });
    if result.is_err() {
        let _ = plane.directory.lock_again(Access::Change);
        let _ = withdraw(&plane.directory);
        let _ = remove(&stand);
    }
    plane.directory.unlock();
    Ok((result?, stand))
}

/// Loads what packets are to come to.
fn build(plane: &Plane, stand: &Path, wish: &Wish, (extras, has_bare): (Extras, bool)) -> Result<Ebpf> {
    if OBSERVE.is_empty() {
        return Err(Error::NotBuilt);
    }
    let directory = plane.directory.path();
    let own = pins::log_level(&directory);
    let constants = Constants::of(&directory)?.with_log(LogLevel::Trace);
    let objects = [(DIRECTOR, if extras.xdp { &[XDP, TC][..] } else { &[TC] }), (L3, &[BARE])];
    let objects = &objects[..if has_bare { 2 } else { 1 }];
    let mut observed = Vec::new();
    for (bytes, tiers) in objects {
        observed.push(observe(bytes, tiers, &directory, stand, &constants, extras)?);
    }
    let snap = wish.snap.min(MOST);
    let came = if wish.came { snap } else { 0 };
    let wanted = Wanted { exits: wish.exits, snap, came, logged: own.number().into(), pad: 0 };
    let mut loader = EbpfLoader::new();
    loader.override_global("WANTED", GlobalData::from(bytes_of(&wanted)), true);
    for name in SHARED {
        loader.map_pin_path(name, directory.join(name));
    }
    for tier in objects.iter().flat_map(|(_, tiers)| *tiers) {
        loader.map_pin_path(tier.pin, stand.join(tier.pin));
        // A program array loses its programs with its last pin or descriptor.
        loader.map_pin_path(tier.gates, stand.join(tier.gates));
    }
    loader.map_pin_path(LOST, stand.join(LOST));
    loader.map_max_entries("REPORTS", wish.memory);
    loader.map_max_entries("VISITS", 2 * cpus::possible()?);
    let mut object = loader.load(OBSERVE).context("the kernel refuses the maps of the observing programs")?;
    let linked = linked(&object, wish)?;
    for ((_, tiers), observed) in objects.iter().zip(&observed) {
        for tier in *tiers {
            install(tier, observed, &linked, &mut object, stand)?;
        }
    }
    Ok(object)
}

/// Loads the programs of an object that packets can come to, with every line of the log, on the maps of a data plane.
fn observe(
    bytes: &[u8],
    tiers: &[Tier],
    directory: &Path,
    stand: &Path,
    constants: &Constants,
    extras: Extras,
) -> Result<Ebpf> {
    let names = Object::parse(bytes).ok().context("the embedded object is no object")?.maps;
    let mut loader = EbpfLoader::new();
    constants.override_in(&mut loader);
    // Read-only data is the object's own.
    for name in names.keys().filter(|name| !name.starts_with('.')) {
        let pin = tiers.iter().find(|tier| tier.array == name).map(|tier| stand.join(tier.pin));
        // Without XDP's programs, their array stays empty.
        let pin = pin.unwrap_or_else(|| directory.join(name));
        loader.map_pin_path(name, pin);
    }
    let mut object = loader.load(bytes).context("the kernel refuses the observed programs")?;
    let is_attached =
        |name: &str| tiers.iter().any(|tier| tier.attached.iter().any(|(_, program, _)| *program == name));
    let is_reached = |name: &str| {
        tiers.iter().any(|tier| PROGRAMS.iter().any(|row| (tier.functions)(row).contains(&name))) && extras.have(name)
    };
    load_programs(&mut object, false, |name| is_attached(name) || is_reached(name))?;
    for tier in tiers {
        link_tier(&mut object, tier.array, tier.functions, extras)?;
    }
    Ok(object)
}

/// The observing programs with the user's filter.
fn linked(object: &Ebpf, wish: &Wish) -> Result<Linked> {
    let mut filters = Vec::new();
    for (name, filter) in [("matches_frame", &wish.frames), ("matches_packet", &wish.packets)] {
        if let Some(filter) = filter {
            filters.push((name, filter.function().map_err(io::Error::other).context("cannot use this filter")?));
        }
    }
    let maps: Vec<(String, &MapData)> =
        object.maps().filter_map(|(name, map)| Some((name.to_owned(), program::data(map)?))).collect();
    Linked::new(OBSERVE, &maps, &filters)
}

/// Puts the observing programs of a tier into their places, and pins those that are to be attached.
fn install(tier: &Tier, observed: &Ebpf, linked: &Linked, object: &mut Ebpf, stand: &Path) -> Result<()> {
    let program = |name: &str| observed.program(name).with_context(|| format!("the object has no program {name}"));
    let context = "cannot link the observing programs";
    let gates = object.map_mut(tier.gates).context("the object has no array of gates")?;
    let mut gates = ProgramArray::<_>::try_from(gates)?;
    for (gate, name, _) in tier.attached {
        gates.set(*gate as u32, fd(name, program(name)?)?, 0).context(context)?;
    }
    gates.set(LOG, fd(tier.log.0, program(tier.log.0)?)?, 0).context(context)?;
    let array = MapData::from_pin(stand.join(tier.pin)).context(context)?;
    let line = linked.load(tier.log.1)?;
    program::set(&array, Program::Log.slot(true), line.as_fd()).context(context)?;
    for (_, name, observing) in tier.attached {
        program::pin(linked.load(observing)?.as_fd(), &stand.join(name))?;
    }
    Ok(())
}

fn bytes_of(wanted: &Wanted) -> &[u8] {
    // SAFETY: words without padding between them.
    unsafe { std::slice::from_raw_parts((&raw const *wanted).cast(), size_of::<Wanted>()) }
}
