//! Loading: the object into the kernel, once for each network namespace.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, available_parallelism, sleep};
use std::time::Duration;

use aya::maps::{Array, Map, MapData, ProgramArray};
use aya::programs::links::FdLink;
use aya::programs::{Program, ProgramFd, SchedClassifier, SkLookup, TestRun, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use aya_obj::generated::bpf_map_type;
use lvs_common::abi::{Idle, Settings};
use lvs_common::programs::{self, PROGRAMS, Row, entry};
use nix::sys::signal::{SigSet, SigmaskHow};

use super::birth::Birth;
use super::bpffs::Directory;
use super::constants::Constants;
use super::cpus;
use super::error::{Context, Error, Result, unfit};
use super::extras::Extras;
use super::kernel::has_tc_links;
use super::layout;
use super::loading::Loading;
use super::pins::{self, SIGN_OF_LIFE, remove};
use super::pod::Pod;
use super::refusal::refused;
use super::sizes::sized;
use crate::objects::{DIRECTOR, L3};

/// Programs that later calls need, and so are pinned: those that are attached to devices, the one whose log is followed, those
/// that end connections or make some, and those that another generation needs.
const PINNED: [&str; 12] = [
    entry::INGRESS,
    entry::EGRESS,
    entry::LOG,
    entry::DRAIN,
    entry::EXPEL,
    entry::IMPORT,
    entry::START,
    entry::STOP,
    entry::MOVE,
    entry::HANDED,
    entry::RETURNED,
    entry::XDP_LEAVE,
];

/// The program array of XDP.
pub(super) const XDP_PROGRAMS: &str = "XDP_PROGRAMS";

/// The program array of TC.
pub(super) const TC_PROGRAMS: &str = "TC_PROGRAMS";

/// Programs that are loaded at a time at most.
const MOST_THREADS: usize = 8;

/// `BPF_F_MMAPABLE`
const MMAPABLE: u32 = 1 << 10;

/// Loads the object and pins everything in `directory`, which does not exist before and is complete when it does.
pub fn load(directory: &Directory, loading: Loading) -> Result<()> {
    let constants = Constants::new(&loading)?;
    let draft = directory.draft();
    remove(&draft)?;
    load_into(&draft, &loading, &constants).inspect_err(|_| drop(remove(&draft)))?;
    fs::rename(&draft, directory.path()).context("cannot put the pinned data plane in its place")
}

/// Loads the object, without [`extras`](super::extras), and pins everything in a new directory.
fn load_into(draft: &Path, loading: &Loading, constants: &Constants) -> Result<()> {
    let mut object = create(loading, DIRECTOR, constants, &[])?;
    let extras = Extras::default();
    load_programs(&mut object, loading.verifier_log, |name| extras.have(name))?;
    let arrays = link_programs(&mut object, extras)?;
    write_settings(&mut object)?;
    make_directories(draft)?;
    if !has_tc_links() {
        pin_sign_of_life(&mut object, &draft.join("links").join(SIGN_OF_LIFE))?;
    }
    pin(object, arrays, draft, extras)?;
    constants.pin(draft)?;
    idle(loading.sizes.destinations)?.pin(draft.join("IDLE")).context("cannot pin map IDLE")?;
    mark(draft, loading, &Birth::now(1))?;
    start(draft)
}

/// Loads the object beside a data plane that runs, and pins everything in a directory that has the pins of the maps to be
/// shared. Its timer is not started.
pub(super) fn load_beside(
    directory: &Path,
    shared: &[String],
    loading: &Loading,
    constants: &Constants,
    birth: &Birth,
    extras: Extras,
) -> Result<()> {
    let shared: Vec<(&str, PathBuf)> = shared.iter().map(|name| (&**name, directory.join(name))).collect();
    let mut object = create(loading, DIRECTOR, constants, &shared)?;
    load_programs(&mut object, loading.verifier_log, |name| extras.have(name))?;
    let arrays = link_programs(&mut object, extras)?;
    pin(object, arrays, directory, extras)?;
    mark(directory, loading, birth)
}

/// Makes the directory of a data plane's pins.
pub(super) fn make_directories(path: &Path) -> Result<()> {
    fs::create_dir(path).context("cannot create a directory of pins")?;
    fs::create_dir(path.join("links")).context("cannot create a directory of pins")
}

/// Loads every program to tell how many instructions the verifier looked at, or why it refuses, and forgets them.
pub fn verify(loading: Loading) -> Result<BTreeMap<String, Result<u32>>> {
    let mut verified = BTreeMap::new();
    for (bytes, prefix) in [(DIRECTOR, ""), (L3, "l3/")] {
        // As they would be loaded: sizes are constants to the verifier, and other ones are other work.
        let mut object = create(&loading, bytes, &Constants::new(&loading)?, &[])?;
        verified.extend(object.programs_mut().map(|(name, program)| {
            let count = load_program(name, program, loading.verifier_log).and_then(|()| {
                program.info()?.verified_instruction_count().context("this kernel does not count instructions")
            });
            (format!("{prefix}{name}"), count)
        }));
    }
    Ok(verified)
}

/// Creates the maps of an object, but those that it shares: their names and pins.
fn create(loading: &Loading, bytes: &[u8], constants: &Constants, shared: &[(&str, PathBuf)]) -> Result<Ebpf> {
    if bytes.is_empty() {
        return Err(Error::NotBuilt);
    }
    // The kernel checks older limits on locked memory before 5.11 only; nothing to raise here.
    let mut loader = EbpfLoader::new();
    constants.override_in(&mut loader);
    for sized in sized(&loading.sizes, constants.cpus, cpus::possible()?) {
        loader.map_max_entries(sized.map, sized.elements);
    }
    for (name, pin) in shared {
        loader.map_pin_path(name, pin);
    }
    loader.load(bytes).context("the kernel refuses the data plane's maps")
}

/// The program arrays, with their names. They lose their programs with their last reference, so they are pinned too.
type Arrays = Vec<(&'static str, ProgramArray<MapData>)>;

/// How many programs are loaded at a time. The verifier takes some 16 MiB for each.
pub(super) fn threads() -> usize {
    available_parallelism().map_or(1, NonZero::get).min(MOST_THREADS)
}

/// Loads the programs of an object that `are_wanted`, on several CPUs: nearly all of the time is the verifier's, which keeps to
/// one CPU for a program. The first refusal is returned.
pub(super) fn load_programs(object: &mut Ebpf, verifier_log: bool, are_wanted: impl Fn(&str) -> bool) -> Result<()> {
    let threads = threads();
    let waiting =
        Mutex::new(object.programs_mut().filter(|(name, _)| are_wanted(name)).collect::<Vec<_>>().into_iter());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        while let Some((name, program)) = next() {
            load_program(name, program, verifier_log)?;
        }
        Ok(())
    };
    // Signals are for the threads that the program has made itself: this may be a library in a program with handlers of its own.
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let outcome = thread::scope(|scope| {
        // A thread that is refused (`pids.max`) leaves its work to the others.
        let others =
            (1..threads).map_while(|_| thread::Builder::new().spawn_scoped(scope, work).ok()).collect::<Vec<_>>();
        let own = work();
        others.into_iter().map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic))).fold(own, Result::and)
    });
    before.thread_set_mask()?;
    outcome
}

/// Loads a program.
fn load_program(name: &str, program: &mut Program, verifier_log: bool) -> Result<()> {
    let loaded = match program {
        Program::Xdp(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        Program::SkLookup(program) => program.load(),
        _ => return unfit(format!("program {name} is of another type")),
    };
    loaded.map_err(|error| refused(name, error, verifier_log))
}

/// Fills the program arrays.
fn link_programs(object: &mut Ebpf, extras: Extras) -> Result<Arrays> {
    Ok(vec![
        (XDP_PROGRAMS, link_tier(object, XDP_PROGRAMS, |row| row.xdp, extras)?),
        (TC_PROGRAMS, link_tier(object, TC_PROGRAMS, |row| row.tc, extras)?),
    ])
}

/// Fills the program array of a tier, with the functions that the table has for it and that were loaded.
pub(super) fn link_tier(
    object: &mut Ebpf,
    array: &str,
    functions: fn(&Row) -> &'static [&'static str],
    extras: Extras,
) -> Result<ProgramArray<MapData>> {
    let map = object.take_map(array).with_context(|| format!("the object has no map {array}"))?;
    let mut array = ProgramArray::<MapData>::try_from(map)?;
    for (number, row) in PROGRAMS.iter().enumerate() {
        for (slot, name) in programs::slots(number, functions(row)).filter(|(_, name)| extras.have(name)) {
            let program = object.program(name).with_context(|| format!("the object has no program {name}"))?;
            array.set(slot, fd(name, program)?, 0).with_context(|| format!("cannot link program {name}"))?;
        }
    }
    Ok(array)
}

/// The descriptor of a loaded program.
pub(super) fn fd<'a>(name: &str, program: &'a Program) -> Result<&'a ProgramFd> {
    match program {
        Program::Xdp(program) => Ok(program.fd()?),
        Program::SchedClassifier(program) => Ok(program.fd()?),
        _ => unfit(format!("program {name} is of another type")),
    }
}

/// IPVS's defaults.
fn write_settings(object: &mut Ebpf) -> Result<()> {
    // Slot 0 is no destination and no service.
    let settings = Settings { epoch: 1, dests_used: 1, services_used: 1, ..Settings::default() };
    let map = object.map_mut("SETTINGS").context("the object has no map SETTINGS")?;
    Array::<_, Pod<Settings>>::try_from(map)?.set(0, Pod(settings), 0).context("cannot write the settings")
}

/// How often the sweep's timer is started, and how long is waited in between: the kernel takes a timer's memory in a way that
/// waits for nothing (since Linux 6.18 not even for a lock), so there may be none at the moment.
const START_TRIES: u32 = 100;
const START_PAUSE: Duration = Duration::from_millis(10);

/// Starts the sweep's timer, which goes on by itself.
pub(super) fn start(directory: &Path) -> Result<()> {
    let program = SchedClassifier::from_pin(directory.join(entry::START)).context("cannot open program lvs_start")?;
    // Any frame will do: the program does not look at it.
    let frame = [0u8; 64];
    let mut answer = 0;
    for _ in 0..START_TRIES {
        let options = TestRunOptions { data_in: Some(&frame), repeat: 1, ..Default::default() };
        answer = program.test_run(options).context("cannot start the sweep")?.return_value as i32;
        if answer == 0 {
            return Ok(());
        }
        sleep(START_PAUSE);
    }
    unfit(format!("cannot start the sweep: the kernel's timer says {answer}"))
}

/// Pins maps and entry programs into a directory. Maps that are pinned there are shared.
fn pin(mut object: Ebpf, arrays: Arrays, path: &Path, extras: Extras) -> Result<()> {
    let names: Vec<String> = object.maps().map(|(name, _)| name.to_owned()).collect();
    for name in names {
        // Read-only data is the programs' own.
        if name.starts_with('.') || path.join(&name).exists() {
            continue;
        }
        let map = object.take_map(&name).context("a map is gone")?;
        pin_map(map, &path.join(&name)).with_context(|| format!("cannot pin map {name}"))?;
    }
    for (name, array) in arrays {
        array.pin(path.join(name)).with_context(|| format!("cannot pin map {name}"))?;
    }
    for name in PINNED.into_iter().chain(extras.xdp.then_some(entry::XDP)) {
        let program = object.program_mut(name).with_context(|| format!("the object has no program {name}"))?;
        let path = path.join(name);
        match program {
            Program::Xdp(program) => program.pin(&path),
            Program::SchedClassifier(program) => program.pin(&path),
            _ => return unfit(format!("program {name} is of another type")),
        }
        .with_context(|| format!("cannot pin program {name}"))?;
    }
    Ok(())
}

/// Notes what a data plane was loaded with, and when.
fn mark(path: &Path, loading: &Loading, birth: &Birth) -> Result<()> {
    birth.mark(path)?;
    fs::create_dir(path.join(pins::log_mark(loading.log))).context("cannot note the level of the log")?;
    layout::mark(path)
}

/// The map `IDLE`, which is not the object's, as no program knows of it.
pub(super) fn idle(destinations: u32) -> Result<MapData> {
    let (kind, key, value) = (bpf_map_type::BPF_MAP_TYPE_ARRAY as u32, size_of::<u32>(), size_of::<Idle>());
    let map = aya_obj::Map::new_from_params(kind, key as u32, value as u32, destinations, MMAPABLE);
    MapData::create(map, "IDLE", None).context("cannot make map IDLE")
}

/// Attaches a program that does nothing to this network namespace, by a link that tells when the namespace is gone.
fn pin_sign_of_life(object: &mut Ebpf, path: &Path) -> Result<()> {
    let program: &mut SkLookup =
        object.program_mut(entry::ALIVE).context("the object has no program for socket look-ups")?.try_into()?;
    let namespace = fs::File::open("/proc/thread-self/ns/net").context("cannot open the network namespace")?;
    let id = program.attach(namespace).context("cannot attach to the network namespace")?;
    let link: FdLink = program.take_link(id)?.into();
    link.pin(path).map(drop).context("cannot pin the link to the network namespace")
}

fn pin_map(map: Map, path: &Path) -> Result<()> {
    map.pin(path).map_err(Into::into)
}
