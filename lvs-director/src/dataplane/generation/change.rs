//! From one generation to the next: the steps, and what becomes of a change whose command was killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use lvs_common::abi::{Bucket, Settings};
use lvs_common::programs::entry;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::super::birth::Birth;
use super::super::bpffs::Directory;
use super::super::constants::Constants;
use super::super::error::{Context, Error, Result, unfit};
use super::super::extras::Extras;
use super::super::l3;
use super::super::layout::{self, Foreign, Layouts};
use super::super::load::{idle, load_beside, make_directories, start};
use super::super::loading::Loading;
use super::super::memory::{self, Limits};
use super::super::observe::put_back;
use super::super::pinned::{elements, number};
use super::super::pins::{self, remove};
use super::super::plane::Plane;
use super::super::sizes::{Sizes, buckets, connections as connections_of};
use super::connections::Mover;
use super::convert::{self, LeftBehind};
use super::live::{self, Live};
use super::maps::{self, Division, Resized};
use super::runner::Counts;
use super::{links, slots};

/// The mark of a generation that is to take over, whatever happens.
const MOVING: &str = "moving";
/// How often the tables are looked through for what was made meanwhile. Two or three times suffice: only connections of
/// templates that have not moved are made still.
const PASSES: u32 = 1000;

/// What is to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Room: for so many connections of each family, services and destinations. `None` stays as it is.
    Room {
        /// Connections of each family.
        connections: Option<u32>,
        /// Virtual services.
        services: Option<u32>,
        /// Destinations of all services together.
        destinations: Option<u32>,
    },
    /// The programs: those of this build.
    Programs,
}

/// What a change did.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Entries of the connection tables that moved.
    pub moved: u32,
    /// Connections that found no room.
    pub lost: u32,
    /// How long both generations were there.
    pub took: Duration,
    /// What the next generation did not take over, a line each.
    pub left: Vec<String>,
}

/// Whether a change was begun and not finished: its command runs, or was killed.
pub fn is_under_way(directory: &Directory) -> bool {
    directory.next().exists() || directory.path().join(MOVING).exists()
}

/// Makes a change to the data plane of a directory, which may be of another build. An error leaves the data plane as it was.
pub fn change(directory: &Directory, change: Change, verifier_log: bool) -> Result<Outcome> {
    let (path, next) = (directory.path(), directory.next());
    put_back::withdraw(directory)?;
    let layouts = Layouts::from(&path)?;
    let old = sizes_of(&path)?;
    let sizes = match change {
        Change::Room { connections, services, destinations } => Sizes {
            connections: connections.unwrap_or(old.connections),
            // One of each place is none.
            services: services.map_or(old.services, |count| count + 1),
            destinations: destinations.map_or(old.destinations, |count| count + 1),
            ..old
        },
        Change::Programs => old,
    };
    check_room(&path, &layouts, &sizes)?;
    let loading = Loading { sizes, verifier_log, log: pins::log_level(&path) };
    let limits = Limits::read();
    let resized = Resized {
        connections: buckets(sizes.connections) != buckets(old.connections),
        ..Resized::between(&old, &sizes)
    };
    let begun = load_next(&path, &next, &loading, &layouts, resized).and_then(|left| {
        let crossing = Crossing::open(&path, &next, false)?;
        fs::create_dir(next.join(MOVING)).context("cannot note that connections move")?;
        Ok((left, crossing))
    });
    match begun {
        Ok((left, crossing)) => Ok(Outcome { left, ..crossing.finish()? }),
        Err(error) => {
            remove(&next)?;
            Err(memory::explained(error, &loading, &limits))
        }
    }
}

/// Finishes a change whose command was killed, or takes it back where packets had not seen it.
pub fn settle(directory: &Directory) -> Result<()> {
    let (path, next) = (directory.path(), directory.next());
    if path.join(MOVING).exists() {
        return promoted(&path, &next);
    }
    if !next.exists() {
        return Ok(());
    }
    if !next.join(MOVING).exists() {
        return remove(&next);
    }
    if !layout::is_own(&next) {
        return Err(Error::Unfinished { found: layout::name(&next)? });
    }
    Crossing::open(&path, &next, true)?.finish().map(drop)
}

/// The sizes of the maps in a directory.
fn sizes_of(path: &Path) -> Result<Sizes> {
    Ok(Sizes {
        connections: connections_of(elements(&path.join("BUCKETS4"))?),
        services: elements(&path.join("SERVICES"))?,
        destinations: elements(&path.join("DESTS"))?,
        lists: elements(&path.join("LISTS4"))? / 2,
    })
}

/// Refuses tables that are too small for what they are to hold.
fn check_room(path: &Path, layouts: &Layouts, sizes: &Sizes) -> Result<()> {
    for (family, map) in [("IPv4", "BUCKETS4"), ("IPv6", "BUCKETS6")] {
        let old = Foreign::<Bucket>::open(path, map, layouts)?;
        let (room, used) = (sizes.connections, (0..old.count()).map(|at| old.get(at).used).sum::<u32>());
        if used > room && room != connections_of(old.count()) {
            return unfit(format!(
                "the table has {used} entries of {family} now, which do not fit into one for {room}: use --conns {used}, or more"
            ));
        }
    }
    let settings = Foreign::<Settings>::open(path, "SETTINGS", layouts)?.get(0);
    for (what, option, used, places) in [
        ("services", "--services", settings.services_used, sizes.services),
        ("destinations", "--destinations", settings.dests_used, sizes.destinations),
    ] {
        if used > places {
            let (used, room) = (used - 1, places - 1);
            return unfit(format!(
                "{used} places of {what} have been used: {option} {room} is too few, use {used} or more"
            ));
        }
    }
    Ok(())
}

/// What the generation before has loaded beside the programs that every data plane has.
fn extras_of(path: &Path, layouts: &Layouts) -> Result<Extras> {
    let settings = Foreign::<Settings>::open(path, "SETTINGS", layouts)?.get(0);
    let extras = Extras::by(path, &settings);
    // A build that does not note it has loaded everything.
    Ok(Extras { ipv6: extras.ipv6 || !layouts.from.has_field("Settings", "extras"), ..extras })
}

/// Loads the next generation beside a data plane. What it does not take over, a line each.
fn load_next(path: &Path, next: &Path, loading: &Loading, layouts: &Layouts, resized: Resized) -> Result<Vec<String>> {
    let mut constants = Constants::of(path)?;
    constants.buckets = buckets(loading.sizes.connections);
    constants.destinations = loading.sizes.destinations;
    let division = Division::of(path, layouts, resized)?;
    make_directories(next)?;
    let shared = division.share(path, next)?;
    let extras = extras_of(path, layouts)?;
    load_beside(next, &shared, loading, &constants, &Birth::now(Birth::read(path)?.generation + 1), extras)?;
    if division.converted.iter().any(|name| name == maps::IDLE) {
        idle(loading.sizes.destinations)?.pin(next.join(maps::IDLE)).context("cannot pin map IDLE")?;
    }
    let mut left = LeftBehind::new();
    for name in &division.converted {
        convert::convert(path, next, name, layouts, &mut left)?;
    }
    convert::complete(next, extras, &division.converted)?;
    live::prepare(path, next, &division.converted, layouts)?;
    let mut live = Live::of(path, next, layouts)?;
    live.bring();
    live.bring_exits()?;
    if l3::is_loaded(path) {
        l3::load_into(next, &constants, extras)?;
    }
    maps::copy_notes(&path.join("links"), &next.join("links"))?;
    links::share(&path.join("links"), &next.join("links"))?;
    let fields = left.iter().map(|(field, count)| format!("{field} of {count}, which this version does not know"));
    Ok(fields.chain(division.forgotten.iter().map(|what| (*what).to_owned())).collect())
}

/// Two generations, of which the next one is marked.
struct Crossing {
    path: PathBuf,
    next: PathBuf,
    is_resumed: bool,
    live: Live,
    /// If connections move.
    mover: Option<Mover>,
}

impl Crossing {
    /// Opens everything that is needed from the mark on.
    fn open(path: &Path, next: &Path, is_resumed: bool) -> Result<Self> {
        let layouts = Layouts::from(path)?;
        let is_shared = number(&path.join("BUCKETS4"))? == number(&next.join("BUCKETS4"))?;
        let mover = if is_shared { None } else { Some(Mover::open(path, next, &layouts, is_resumed)?) };
        let live = Live::of(path, next, &layouts)?;
        Ok(Crossing { path: path.to_owned(), next: next.to_owned(), is_resumed, live, mover })
    }

    /// The rest of a change, from the mark on. What was done already is done again, and does nothing then.
    fn finish(mut self) -> Result<Outcome> {
        let began = Instant::now();
        let (path, next) = (self.path.clone(), self.next.clone());
        if let Err(error) = self.take_over() {
            // Nothing has moved: every packet's connection is in the generation before.
            links::switch(&path.join("links"), &next, &path)?;
            slots::clear(&path)?;
            remove(&next)?;
            return Err(error);
        }
        run(&path, entry::STOP)?;
        start(&next)?;
        let counts = self.move_connections()?;
        slots::clear(&next)?;
        slots::clear(&path)?;
        Plane::wait_for_packets();
        self.live.bring();
        self.live.bring_exits()?;
        renameat2(AT_FDCWD, &next, AT_FDCWD, &path, RenameFlags::RENAME_EXCHANGE)
            .context("cannot put the next generation in its place")?;
        promoted(&path, &next)?;
        Ok(Outcome { moved: counts.moved, lost: counts.lost, took: began.elapsed(), left: Vec::new() })
    }

    /// Has packets come to the next generation.
    fn take_over(&self) -> Result<()> {
        if self.mover.is_some() {
            slots::lead_back(&self.next, &self.path)?;
        }
        self.hand_on();
        links::switch(&self.path.join("links"), &self.path, &self.next)?;
        Plane::wait_for_packets();
        self.live.bring();
        Ok(())
    }

    /// A command that was killed may have done it, and the next generation gone on since.
    fn hand_on(&self) {
        if !self.is_resumed {
            self.live.hand_on();
        }
    }

    /// Moves all connections. In the end the next generation makes the new ones, and needs the one before no longer.
    fn move_connections(&mut self) -> Result<Counts> {
        let Some(mut mover) = self.mover.take() else { return Ok(Counts::default()) };
        let mut pass = || -> Result<(u32, Counts)> {
            self.live.bring();
            let found = mover.copy()?;
            self.live.bring();
            Plane::wait_for_packets();
            mover.settle();
            Ok((found, mover.counts()))
        };
        pass()?;
        self.hand_on();
        slots::lead_on(&self.path, &self.next)?;
        Plane::wait_for_packets();
        for _ in 0..PASSES {
            let (found, counts) = pass()?;
            if found == 0 {
                return Ok(counts);
            }
        }
        unfit("connections are made as fast as they move: `lvsadm status` goes on with it")
    }
}

/// Removes the generation before, which has the next one's place by now.
fn promoted(path: &Path, next: &Path) -> Result<()> {
    remove(next)?;
    live::forget(path)?;
    fs::remove_dir(path.join(MOVING)).context("cannot remove a mark")
}

/// Runs a program of a generation that is attached nowhere.
fn run(directory: &Path, name: &str) -> Result<()> {
    let context = || format!("cannot run program {name}");
    let program = SchedClassifier::from_pin(directory.join(name)).with_context(context)?;
    let options = TestRunOptions { data_in: Some(&[0; 64]), repeat: 1, ..Default::default() };
    program.test_run(options).with_context(context).map(drop)
}
