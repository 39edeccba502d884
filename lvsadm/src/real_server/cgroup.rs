//! Control groups, version 2: named as `/proc/PID/cgroup` and systemd name them, wherever the hierarchy is mounted.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// The whole hierarchy.
pub const ROOT: &str = "/";

/// A control group.
pub struct Cgroup {
    /// Its directory.
    pub directory: File,
    /// Its number, which is never used again.
    pub id: u64,
}

/// Where the hierarchy's root is.
pub struct Hierarchy {
    root: File,
    /// Its mount points.
    points: Vec<PathBuf>,
}

impl Hierarchy {
    /// Finds it mounted, or mounts it for this process: `ip netns exec` hides what is below `/sys`.
    pub fn open() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read the list of mounts")?;
        let mut points = mount_points(&mounts);
        let root = match points.first() {
            Some(point) => File::open(point).with_context(|| format!("cannot open {}", point.display()))?,
            None => mounted_aside().context("no cgroup2 file system is mounted here, and none can be: mount one")?,
        };
        // Where the operator sees it, if not this process.
        points.extend(mount_points(&fs::read_to_string("/proc/1/mountinfo").unwrap_or_default()));
        Ok(Hierarchy { root, points })
    }

    /// The name of the control group that `path` says, by its name or by its directory's path.
    pub fn name(&self, path: &Path) -> Result<PathBuf> {
        let below = self.points.iter().find_map(|point| path.strip_prefix(point).ok()).unwrap_or(path);
        let name: PathBuf = Path::new(ROOT).join(below).components().collect();
        if name.components().any(|part| part == Component::ParentDir) {
            bail!("a control group's name goes down only, not as {} does", path.display());
        }
        self.get(&name)?;
        Ok(name)
    }

    /// The control group of this name.
    pub fn get(&self, name: &Path) -> Result<Cgroup> {
        let below = name.strip_prefix(ROOT).unwrap_or(name);
        let path = PathBuf::from(format!("/proc/self/fd/{}", self.root.as_raw_fd())).join(below);
        let context = || format!("there is no control group {} (of cgroup2)", name.display());
        let directory = File::open(path.join("cgroup.procs")).and(File::open(&path)).with_context(context)?;
        let id = directory.metadata().with_context(context)?.ino();
        Ok(Cgroup { directory, id })
    }
}

/// Those of `names` that are not within another one.
pub fn outermost(names: &[PathBuf]) -> Vec<PathBuf> {
    let mut outermost: Vec<PathBuf> = Vec::new();
    let mut sorted = names.to_vec();
    sorted.sort();
    for name in sorted {
        if !outermost.iter().any(|outer| name.starts_with(outer)) {
            outermost.push(name);
        }
    }
    outermost
}

/// Where `mounts`, the text of `/proc/PID/mountinfo`, has the root of the hierarchy mounted. Fields: numbers of the mount,
/// its parent and the device, root, mount point, options, any number of tags, `-`, type.
fn mount_points(mounts: &str) -> Vec<PathBuf> {
    let point = |line: &str| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (root == ROOT && file_system.starts_with("cgroup2 ")).then(|| PathBuf::from(unescaped(point)))
    };
    mounts.lines().filter_map(point).collect()
}

/// A field of `/proc/PID/mountinfo`: blanks and backslashes are three octal digits after a backslash.
fn unescaped(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (escape, character)| text.replace(escape, character))
}

/// The root of the hierarchy, mounted where nobody sees it for longer than a moment.
fn mounted_aside() -> Result<File> {
    let point = PathBuf::from(format!("/run/lvs/cgroup-{}", std::process::id()));
    fs::create_dir_all(&point)?;
    let none: Option<&str> = None;
    let root = mount(Some("lvs"), &point, Some("cgroup2"), MsFlags::empty(), none).map_err(Into::into).and_then(|()| {
        let root = File::open(&point);
        // The descriptor keeps it.
        umount2(&point, MntFlags::MNT_DETACH)?;
        Ok(root?)
    });
    let _ = fs::remove_dir(&point);
    root
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchy_is_found_among_the_mounts() {
        let mounts = "25 30 0:23 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n\
                      30 25 0:26 / /sys/fs/cgroup ro shared:9 - tmpfs tmpfs ro\n\
                      31 30 0:27 /box /srv/box rw - cgroup2 cgroup2 rw\n\
                      32 30 0:27 / /sys/fs/cgroup/unified rw shared:10 master:3 - cgroup2 cgroup2 rw\n\
                      33 30 0:27 / /mnt/with\\040blank rw - cgroup2 none rw\n";
        assert_eq!(mount_points(mounts), [Path::new("/sys/fs/cgroup/unified"), Path::new("/mnt/with blank")]);
        assert!(mount_points("nonsense\n\n - cgroup2 \n1 2 3 / - cgroup2 x").is_empty());
    }

    #[test]
    fn a_group_within_another_one_is_left_out() {
        let names = ["/b/c", "/a.slice/x", "/b", "/a.slice", "/a.slice2", "/b"].map(PathBuf::from);
        assert_eq!(outermost(&names), ["/a.slice", "/a.slice2", "/b"].map(PathBuf::from));
        assert_eq!(outermost(&["/x", "/"].map(PathBuf::from)), [PathBuf::from("/")]);
    }
}
