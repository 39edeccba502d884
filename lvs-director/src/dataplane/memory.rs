//! How much memory the data plane's maps take, and which limit refuses it.
//!
//! The kernel charges a map to the control group of the process that makes it.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Component, Path, PathBuf};

use aya::maps::MapData;

use super::bpffs;
use super::cpus;
use super::error::{Context, Error, Result};
use super::load;
use super::loading::Loading;
use super::plane::Plane;
use super::sizes;
use crate::director;

/// Bytes of a MiB.
const MIB: u64 = 1 << 20;
/// Limits from here on are none: version 1 of control groups writes the largest number of pages.
const UNLIMITED: u64 = 1 << 60;
/// A group with less room than this is full.
const ROOM: u64 = MIB;

/// MiB that a process takes while it loads the data plane, and the verifier for each program at a time.
const LOADING: (u64, u64) = (64, 16);

/// MiB that the maps of a data plane to be will take.
pub fn needed(loading: &Loading) -> Result<u64> {
    Ok(sizes::bytes(&loading.sizes, cpus::present()?, cpus::possible()?).div_ceil(MIB))
}

impl Plane {
    /// Bytes that the kernel says the maps take.
    pub fn memory(&self) -> Result<u64> {
        let directory = self.directory.path();
        let names = fs::read_dir(&directory).context("cannot look into the directory of pins")?;
        let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        // Names of maps are in capitals, unlike those of programs.
        let maps = names.filter(|name| name.starts_with(|c: char| c.is_ascii_uppercase()));
        Ok(maps.filter_map(|name| locked(&MapData::from_pin(directory.join(name)).ok()?)).sum())
    }
}

/// Bytes of a map.
fn locked(map: &MapData) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("memlock:"))?.trim().parse().ok()
}

/// A control group that may not have more than so much memory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    name: String,
    /// The file with the limit.
    file: &'static str,
    limit: u64,
    /// Bytes in use, without files' pages, which give way.
    used: u64,
    /// How often the limit refused something.
    refusals: u64,
}

impl Group {
    fn sentence(&self) -> String {
        format!("the memory limit of control group {} ({}, {} MiB)", self.name, self.file, self.limit / MIB)
    }
}

/// The memory limits of control groups that this process is in, the innermost first.
#[derive(Clone, Debug, Default)]
pub struct Limits(Vec<Group>);

impl Limits {
    /// As they are now.
    pub fn read() -> Self {
        // `ip netns exec` hides what is mounted below `/sys`.
        let here = Self::visible();
        if here.0.is_empty() { bpffs::outside(Self::visible).unwrap_or_default() } else { here }
    }

    /// Those of the groups that are mounted here.
    fn visible() -> Self {
        let read = |file: &str| fs::read_to_string(Path::new("/proc/thread-self").join(file)).unwrap_or_default();
        let mut groups = Vec::new();
        for Place { point, below, version } in directories(&read("cgroup"), &read("mountinfo")) {
            groups.extend(below.ancestors().filter_map(|name| version.group(&point.join(name), name)));
        }
        Limits(groups)
    }

    /// What refused memory since `before`, for a message.
    fn refuser(&self, before: Option<&Self>) -> String {
        let refused = |group: &&Group| match before {
            Some(Limits(before)) => {
                let same = before.iter().find(|old| (&old.name, old.file) == (&group.name, group.file));
                same.is_none_or(|old| old.refusals < group.refusals)
            }
            None => group.used.saturating_add(ROOM) >= group.limit,
        };
        match self.0.iter().find(refused) {
            Some(group) => group.sentence(),
            None => of_machine(available().unwrap_or_default()),
        }
    }
}

/// MiB that loading takes beside the maps.
fn meanwhile() -> u64 {
    LOADING.0 + LOADING.1 * load::threads() as u64
}

/// Refuses to load what cannot fit: the kernel would end a process of a full control group, this one or another.
pub fn admit(loading: &Loading, limits: &Limits) -> Result<()> {
    let (needed, meanwhile) = (needed(loading)?, meanwhile());
    let charged = meanwhile + if charges_maps() { needed } else { 0 };
    let free = |group: &&Group| group.limit.saturating_sub(group.used) / MIB;
    let full = limits.0.iter().find(|group| free(group) < charged).map(Group::sentence);
    let machine = || available().filter(|left| *left < needed).map(of_machine);
    full.or_else(machine).map_or(Ok(()), |limit| Err(Error::NoMemory { needed, meanwhile, limit, cause: None }))
}

/// Whether control groups account for maps: a parameter at boot can say that they do not.
fn charges_maps() -> bool {
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let mut options = line.split_whitespace().filter_map(|word| word.strip_prefix("cgroup.memory="));
    !options.any(|options| options.split(',').any(|option| matches!(option, "nokmem" | "nobpf")))
}

/// An error of loading, with what refused the memory if that is the reason.
pub fn explained(error: Error, loading: &Loading, before: &Limits) -> Error {
    if error.number() != Some(libc::ENOMEM) {
        return error;
    }
    let (limit, needed) = (Limits::read().refuser(Some(before)), needed(loading).unwrap_or_default());
    Error::NoMemory { needed, meanwhile: meanwhile(), limit, cause: Some(Box::new(error)) }
}

impl From<Error> for director::Error {
    fn from(error: Error) -> Self {
        let unexplained = error.number() == Some(libc::ENOMEM) && !matches!(error, Error::NoMemory { .. });
        let by = || format!(" (refused by {})", Limits::read().refuser(None));
        director::Error::Other(error.line() + &if unexplained { by() } else { String::new() })
    }
}

/// MiB of memory that the machine has left.
fn available() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let number = |name| text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse().ok());
    let (memory, swap): (u64, Option<u64>) = (number("MemAvailable:")?, number("SwapFree:"));
    Some((memory + swap.unwrap_or_default()) >> 10)
}

/// The machine as what refuses memory, with so many MiB left.
fn of_machine(left: u64) -> String {
    format!("the machine, which has {left} MiB left")
}

/// The version of a hierarchy of control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Version {
    /// The group in a directory, if its memory is limited.
    fn group(self, directory: &Path, name: &Path) -> Option<Group> {
        let read = |file: &str| fs::read_to_string(directory.join(file)).ok();
        let number = |file| read(file)?.trim().parse::<u64>().ok();
        // A number of a file with lines of a word and a number.
        let line = |file, word: &str| {
            let text = read(file)?;
            text.lines().find_map(|line| line.strip_prefix(word)?.trim().parse::<u64>().ok())
        };
        let (file, used, pages) = match self {
            Version::One => ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache "),
            Version::Two => ("memory.max", "memory.current", "file "),
        };
        let limit = number(file).filter(|limit| *limit < UNLIMITED)?;
        let refusals = match self {
            Version::One => number("memory.failcnt"),
            Version::Two => line("memory.events", "max "),
        };
        let used = number(used).unwrap_or_default().saturating_sub(line("memory.stat", pages).unwrap_or_default());
        let name = Path::new("/").join(name).display().to_string();
        Some(Group { name, file, limit, used, refusals: refusals.unwrap_or_default() })
    }
}

/// Where a control group is.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// The mount point of its hierarchy.
    point: PathBuf,
    /// Its path below that.
    below: PathBuf,
    version: Version,
}

/// Where the groups are that `/proc/self/cgroup` names and that may limit memory, by the list of mounts.
fn directories(own: &str, mounts: &str) -> Vec<Place> {
    // `NUMBER:CONTROLLERS:PATH`; version 2 has neither number nor controllers.
    let groups = own.lines().filter_map(|line| {
        let (number, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        match (number, controllers) {
            ("0", "") => Some((Version::Two, path)),
            (_, controllers) => controllers.split(',').any(|name| name == "memory").then_some((Version::One, path)),
        }
    });
    groups.filter_map(|(version, path)| find(version, Path::new(path), mounts)).collect()
}

/// Finds a group's directory among the mounts.
fn find(version: Version, path: &Path, mounts: &str) -> Option<Place> {
    mounts.lines().find_map(|line| {
        // `ID PARENT DEVICE ROOT POINT OPTIONS [TAG…] - KIND SOURCE OPTIONS`
        let (mount, file_system) = line.split_once(" - ")?;
        let (mut mount, mut file_system) = (mount.split(' ').skip(3), file_system.split(' '));
        let (root, point) = (mount.next()?, mount.next()?);
        let (kind, options) = (file_system.next()?, file_system.nth(1)?);
        let is_meant = match version {
            Version::Two => kind == "cgroup2",
            Version::One => kind == "cgroup" && options.split(',').any(|option| option == "memory"),
        };
        let below = path.strip_prefix(root).ok().filter(|_| is_meant)?;
        let goes_down = below.components().all(|part| matches!(part, Component::Normal(_)));
        goes_down.then(|| Place { point: point.into(), below: below.to_owned(), version })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_in_both_versions() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755\n\
                      35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:10 - cgroup cgroup rw,memory\n\
                      41 31 0:38 /machine /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n";
        let own = "4:cpu,memory:/keepalived\n1:name=systemd:/other\n0::/machine/a.slice/b.service\n";
        let place = |point: &str, below: &str, version| Place { point: point.into(), below: below.into(), version };
        let wanted = [
            place("/sys/fs/cgroup/memory", "keepalived", Version::One),
            place("/sys/fs/cgroup/unified", "a.slice/b.service", Version::Two),
        ];
        assert_eq!(directories(own, mounts), wanted);
        // Groups above the mount's root are not seen.
        assert_eq!(directories("0::/../x\n4:memory:/../y\n", mounts), []);
        assert_eq!(directories("", mounts), []);
    }

    #[test]
    fn the_group_whose_refusals_grew_is_named() {
        let group = |name: &str, refusals| {
            let (limit, used) = (64 * MIB, 10 * MIB);
            Group { name: name.into(), file: "memory.max", limit, used, refusals }
        };
        let before = Limits(vec![group("/a/b", 3), group("/a", 1)]);
        let after = Limits(vec![group("/a/b", 3), group("/a", 2)]);
        assert_eq!(after.refuser(Some(&before)), "the memory limit of control group /a (memory.max, 64 MiB)");
        assert!(before.refuser(Some(&before)).starts_with("the machine, which has "));
        let full = Limits(vec![group("/a/b", 0), Group { used: 64 * MIB - 5, ..group("/a", 0) }]);
        assert!(full.refuser(None).contains("control group /a ("));
    }
}
