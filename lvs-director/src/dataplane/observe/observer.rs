//! Observing: the reports of the observing programs, read while they are attached.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{Array, MapData, PerCpuArray, RingBuf};
use lvs_common::abi::observe::{MOST, Observed};
use nix::time::{ClockId, clock_gettime};

use super::super::error::{Context, Result};
use super::super::plane::Plane;
use super::put_back::withdraw;
use super::stand::{self, Wish};
use crate::director::Access;

/// How long the programs report after the lease was renewed.
const LEASE: Duration = Duration::from_secs(5);

/// A report.
#[derive(Clone, Debug)]
pub struct Sight {
    /// What the program says.
    pub report: Observed,
    /// The packet's bytes, as many as were wished for.
    pub bytes: Vec<u8>,
}

/// A data plane that is observed. The data plane's own programs are attached again when it goes.
pub struct Observer {
    plane: Plane,
    stand: PathBuf,
    /// The links that there were at the beginning.
    links: BTreeSet<OsString>,
    lease: Array<MapData, u64>,
    reports: RingBuf<MapData>,
    lost: PerCpuArray<MapData, u64>,
    snap: u32,
    /// The other maps.
    _object: Ebpf,
}

/// Names of links.
fn links(plane: &Plane) -> Result<BTreeSet<OsString>> {
    let entries = fs::read_dir(plane.directory.path().join("links")).context("cannot read a directory of pins")?;
    Ok(entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect())
}

impl Observer {
    /// Has a data plane's packets observed, which is locked for changes, and unlocks it.
    pub fn start(mut plane: Plane, wish: &Wish) -> Result<Self> {
        let links = links(&plane)?;
        let (mut object, stand) = stand::raise(&mut plane, wish)?;
        let maps = Maps::of(&mut object).inspect_err(|_| lower(&mut plane, &stand))?;
        let (Maps { reports, lost, lease }, snap) = (maps, wish.snap.min(MOST));
        let mut observer = Observer { plane, stand, links, lease, reports, lost, snap, _object: object };
        observer.renew()?;
        Ok(observer)
    }

    /// The data plane.
    pub fn plane(&self) -> &Plane {
        &self.plane
    }

    /// Has the programs report for another while. To be called every second.
    pub fn renew(&mut self) -> Result<()> {
        let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
        self.lease.set(0, (now + LEASE).as_nanos() as u64, 0).context("cannot renew the lease of observing")
    }

    /// Reads what has been reported, in the order of time. Nobody tells when there is something.
    pub fn read(&mut self) -> Vec<Sight> {
        let mut sights = Vec::new();
        while let Some(record) = self.reports.next() {
            sights.extend(sight(&record, self.snap));
        }
        sights.sort_by_key(|sight| sight.report.time);
        sights
    }

    /// Reports that there was no room for.
    pub fn lost(&self) -> u64 {
        self.lost.get(&0, 0).map_or(0, |counts| counts.iter().sum())
    }

    /// Whether every packet is observed. An upgrade ends observing, and a device that was attached meanwhile is not observed.
    pub fn is_current(&self) -> bool {
        self.stand.exists() && links(&self.plane).is_ok_and(|now| now == self.links)
    }

    /// Ends observing: what was reported meanwhile can be read still.
    pub fn stop(&mut self) {
        lower(&mut self.plane, &self.stand);
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Has packets come to the data plane's own programs again. What fails here is done by the next command.
fn lower(plane: &mut Plane, stand: &Path) {
    if !stand.exists() {
        return;
    }
    if plane.directory.lock_again(Access::Change).unwrap_or_default() {
        let _ = withdraw(&plane.directory);
    }
    plane.directory.unlock();
}

/// The maps that are read and written.
struct Maps {
    reports: RingBuf<MapData>,
    lost: PerCpuArray<MapData, u64>,
    lease: Array<MapData, u64>,
}

impl Maps {
    fn of(object: &mut Ebpf) -> Result<Self> {
        let mut take = |name: &str| object.take_map(name).with_context(|| format!("the object has no map {name}"));
        Ok(Maps {
            reports: RingBuf::try_from(take("REPORTS")?)?,
            lost: PerCpuArray::try_from(take("LOST")?)?,
            lease: Array::try_from(take("LEASE")?)?,
        })
    }
}

/// Reads a record with `snap` bytes of a packet at most.
fn sight(record: &[u8], snap: u32) -> Option<Sight> {
    let bytes = record.get(size_of::<Observed>()..)?;
    // SAFETY: as many bytes as that, of integers.
    let report: Observed = unsafe { record.as_ptr().cast::<Observed>().read_unaligned() };
    let length = bytes.len().min(report.length.min(snap) as usize);
    Some(Sight { bytes: bytes[..length].to_vec(), report })
}
