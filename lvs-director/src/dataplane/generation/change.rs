//! From one generation to the next: the steps, and what becomes of a change whose command was killed.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use aya::maps::MapData;
use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use lvs_common::programs::entry;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::super::birth::Birth;
use super::super::bpffs::Directory;
use super::super::constants::Constants;
use super::super::error::{Context, Result, unfit};
use super::super::extras::Extras;
use super::super::l3;
use super::super::layout;
use super::super::load::{load_beside, make_directories, start};
use super::super::loading::Loading;
use super::super::mapped::field;
use super::super::memory::{self, Limits};
use super::super::pins::{self, remove};
use super::super::plane::Plane;
use super::super::sizes::{Sizes, buckets};
use super::connections::Mover;
use super::runner::Counts;
use super::{links, maps, slots};

/// The mark of a generation that is to take over, whatever happens.
const MOVING: &str = "moving";
/// How often the tables are looked through for what was made meanwhile. Two or three times suffice: only connections of
/// templates that have not moved are made still.
const PASSES: u32 = 1000;

/// What is to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Room for so many connections of each family.
    Connections(u32),
    /// The programs: those of this build.
    Programs,
}

/// What a change did.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Entries of the connection tables that moved.
    pub moved: u32,
    /// Connections that found no room.
    pub lost: u32,
    /// How long both generations were there.
    pub took: Duration,
}

/// Whether a change was begun and not finished: its command runs, or was killed.
pub fn is_under_way(directory: &Directory) -> bool {
    directory.next().exists() || directory.path().join(MOVING).exists()
}

/// Makes a change. An error leaves the data plane as it was.
pub fn change(plane: Plane, change: Change, verifier_log: bool) -> Result<Outcome> {
    let entries = plane.entries();
    let (present, services, destinations) = plane.sizes();
    let (connections, room) = match change {
        Change::Connections(room) => (room, room),
        Change::Programs => (present, u32::MAX),
    };
    if let Some((family, used)) = ["IPv4", "IPv6"].into_iter().zip(entries).find(|(_, used)| *used > room) {
        return unfit(format!(
            "the table has {used} entries of {family} now, which do not fit into one for {room}: use --conns {used}, or more"
        ));
    }
    let next = plane.directory.next();
    let loading = Loading {
        // The lists are shared.
        sizes: Sizes { connections, services, destinations, lists: 1 },
        verifier_log,
        log: pins::log_level(&plane.directory),
    };
    let limits = Limits::read();
    let loaded = load_next(&plane, &next, &loading);
    if let Err(error) = loaded.and_then(|()| mark(&next)) {
        remove(&next)?;
        return Err(memory::explained(error, &loading, &limits));
    }
    finish(&plane.directory, false)
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
    layout::check(&next)?;
    finish(directory, true).map(drop)
}

/// Loads the next generation beside a data plane.
fn load_next(plane: &Plane, next: &Path, loading: &Loading) -> Result<()> {
    let path = plane.directory.path();
    let (mut constants, extras) = (Constants::of(plane)?, Extras::of(plane));
    let with_tables = plane.has_room_for(loading.sizes.connections);
    constants.buckets = buckets(loading.sizes.connections);
    make_directories(next)?;
    let shared = maps::share(&path, next, with_tables)?;
    load_beside(next, &shared, loading, &constants, &Birth::now(Birth::read(&path)?.generation + 1), extras)?;
    if l3::is_loaded(&path) {
        l3::load_into(next, &constants, extras)?;
    }
    maps::copy_notes(&path.join("links"), &next.join("links"))?;
    links::share(&path.join("links"), &next.join("links"))
}

fn mark(next: &Path) -> Result<()> {
    fs::create_dir(next.join(MOVING)).context("cannot note that connections move")
}

/// The rest of a change, from the mark on. What was done already is done again, and does nothing then.
fn finish(directory: &Directory, is_resumed: bool) -> Result<Outcome> {
    let began = Instant::now();
    let (path, next) = (directory.path(), directory.next());
    let is_shared = number(&path.join("BUCKETS4"))? == number(&next.join("BUCKETS4"))?;
    if let Err(error) = take_over(&path, &next, is_shared) {
        // Nothing has moved: every packet's connection is in the generation before.
        links::switch(&path.join("links"), &next, &path)?;
        slots::clear(&path)?;
        remove(&next)?;
        return Err(error);
    }
    run(&path, entry::STOP)?;
    start(&next)?;
    let counts = if is_shared { Counts::default() } else { move_connections(&path, &next, is_resumed)? };
    slots::clear(&next)?;
    slots::clear(&path)?;
    Plane::wait_for_packets();
    renameat2(AT_FDCWD, &next, AT_FDCWD, &path, RenameFlags::RENAME_EXCHANGE)
        .context("cannot put the next generation in its place")?;
    promoted(&path, &next)?;
    Ok(Outcome { moved: counts.moved, lost: counts.lost, took: began.elapsed() })
}

/// Has packets come to the next generation.
fn take_over(path: &Path, next: &Path, is_shared: bool) -> Result<()> {
    if !is_shared {
        slots::lead_back(next, path)?;
    }
    links::switch(&path.join("links"), path, next)
}

/// Moves all connections. In the end the next generation makes the new ones, and needs the one before no longer.
fn move_connections(path: &Path, next: &Path, is_resumed: bool) -> Result<Counts> {
    let mut mover = Mover::open(path, next, is_resumed)?;
    let mut pass = || -> Result<(u32, Counts)> {
        let found = mover.copy()?;
        Plane::wait_for_packets();
        mover.settle();
        Ok((found, mover.counts()))
    };
    pass()?;
    slots::lead_on(path, next)?;
    Plane::wait_for_packets();
    for _ in 0..PASSES {
        let (found, counts) = pass()?;
        if found == 0 {
            return Ok(counts);
        }
    }
    unfit("connections are made as fast as they move: `lvsadm status` goes on with it")
}

/// Removes the generation before, which has the next one's place by now.
fn promoted(path: &Path, next: &Path) -> Result<()> {
    remove(next)?;
    fs::remove_dir(path.join(MOVING)).context("cannot remove a mark")
}

/// The number that the kernel gave a map.
fn number(pin: &Path) -> Result<u32> {
    let context = || format!("cannot open map {}", pin.display());
    Ok(MapData::from_pin(pin).with_context(context)?.info().with_context(context)?.id())
}

/// Runs a program of a generation that is attached nowhere.
fn run(directory: &Path, name: &str) -> Result<()> {
    let context = || format!("cannot run program {name}");
    let program = SchedClassifier::from_pin(directory.join(name)).with_context(context)?;
    let options = TestRunOptions { data_in: Some(&[0; 64]), repeat: 1, ..Default::default() };
    program.test_run(options).with_context(context).map(drop)
}

impl Plane {
    /// Entries of the connection tables, of IPv4 and of IPv6.
    fn entries(&self) -> [u32; 2] {
        [&self.buckets4, &self.buckets6].map(|buckets| (0..buckets.count()).map(|at| field!(buckets, at, used)).sum())
    }
}
