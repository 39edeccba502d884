//! Observing: the reports of the observing programs, read while they are attached.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::Ebpf;
use aya::maps::perf::{PerfEvent, PerfEventArray, PerfEventArrayBuffer};
use aya::maps::{Array, MapData};
use aya::util::online_cpus;
use lvs_common::abi::observe::Observed;
use nix::time::{ClockId, clock_gettime};

use super::super::error::{Context, Result};
use super::super::plane::Plane;
use super::put_back::withdraw;
use super::stand::{self, MOST, Wish};
use crate::director::Access;

/// The map of reports.
const REPORTS: &str = "REPORTS";
/// How long the programs report after the lease was renewed.
const LEASE: Duration = Duration::from_secs(5);

/// The memory for reports of each CPU.
type Buffers = Vec<PerfEventArrayBuffer<MapData>>;

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
    buffers: Buffers,
    snap: u32,
    lost: u64,
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
        let (buffers, lease) = open(&mut object, wish.pages).inspect_err(|_| lower(&mut plane, &stand))?;
        let snap = wish.snap.min(MOST);
        let mut observer = Observer { plane, stand, links, lease, buffers, snap, lost: 0, _object: object };
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

    /// Descriptors that become readable with reports.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.buffers.iter().map(AsFd::as_fd)
    }

    /// Reads what has been reported, in the order of time.
    pub fn read(&mut self) -> Vec<Sight> {
        let mut sights = Vec::new();
        for buffer in &mut self.buffers {
            buffer.for_each(|event| match event {
                PerfEvent::Sample { head, tail } => sights.extend(sight(&[head, tail].concat(), self.snap)),
                PerfEvent::Lost { count } => self.lost += count,
            });
        }
        sights.sort_by_key(|sight| sight.report.time);
        sights
    }

    /// Reports that there was no room for.
    pub fn lost(&self) -> u64 {
        self.lost
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

/// Opens the buffers of all CPUs, and the lease.
fn open(object: &mut Ebpf, pages: usize) -> Result<(Buffers, Array<MapData, u64>)> {
    let map = object.take_map(REPORTS).context("the object has no map of reports")?;
    let mut array = PerfEventArray::try_from(map)?;
    let cpus = online_cpus().map_err(|(_, error)| error).context("cannot list the CPUs")?;
    let buffers = cpus.into_iter().map(|cpu| array.open(cpu, Some(pages)));
    let context = "cannot open the memory for reports";
    let buffers = buffers.map(|buffer| buffer.map_err(io::Error::other).context(context)).collect::<Result<_>>()?;
    let lease = object.take_map("LEASE").context("the object has no lease")?;
    Ok((buffers, Array::try_from(lease)?))
}

/// Reads a record with `snap` bytes of a packet at most. The record is padded.
fn sight(record: &[u8], snap: u32) -> Option<Sight> {
    let bytes = record.get(size_of::<Observed>()..)?;
    // SAFETY: as many bytes as that, of integers.
    let report: Observed = unsafe { record.as_ptr().cast::<Observed>().read_unaligned() };
    let length = bytes.len().min(report.length.min(snap) as usize);
    Some(Sight { bytes: bytes[..length].to_vec(), report })
}
