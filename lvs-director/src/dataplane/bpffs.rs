//! Where pins live: one directory for each network namespace in a BPF file system that every process sees.
//!
//! `ip netns exec` gives each call a private mount namespace with a fresh `/sys`, so the file system is mounted outside
//! `/sys`, in the initial mount namespace, and reached through a descriptor of it. Namespaces are told apart by their cookie,
//! which is never used again, unlike their inode number.

use super::error::{Context, Result, unfit};
use crate::director::Access;

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

/// The mount point, unless the environment names another one.
const MOUNT_POINT: &str = "/run/lvs/bpf";
/// Environment variable that names another mount point.
pub const MOUNT_POINT_VARIABLE: &str = "LVS_BPFFS";
/// What a directory's name begins with, before the namespace's cookie: in its place, and while it is made.
pub const NAMESPACE: &str = "ns-";
const DRAFT: &str = "draft-";
/// The same for the generation that comes after the one in its place.
pub const NEXT: &str = "next-";
/// The same for a copy that packets are rehearsed on; its process follows.
pub const COPY: &str = "copy-";
/// The same for the programs that observe packets; their process follows.
pub const WATCH: &str = "watch-";
/// The directory of locks.
const LOCKS: &str = "locks";
/// `SO_NETNS_COOKIE` (Linux 5.14).
const SO_NETNS_COOKIE: libc::c_int = 71;

/// The directory of this network namespace, locked against other commands until [`Directory::unlock`].
#[derive(Debug)]
pub struct Directory {
    root: File,
    point: PathBuf,
    name: String,
    lock: Option<Flock<File>>,
    /// Which directory it was when [`Directory::identify`] was asked.
    identity: Option<u64>,
}

impl Directory {
    /// The directory's path, good for this process only.
    pub fn path(&self) -> PathBuf {
        self.sibling(&self.name)
    }

    /// Where it is for whoever sees the initial mount namespace.
    pub fn place(&self) -> PathBuf {
        self.point.join(&self.name)
    }

    /// A path beside the directory.
    pub fn sibling(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.root.as_raw_fd()))
    }

    /// Remembers which directory it is, for [`Directory::lock_again`].
    pub fn identify(&mut self) {
        self.identity = identity(&self.path());
    }

    /// Waits for the lock again, after [`Directory::unlock`]. `false` if the directory is not the one any more that it was: another data
    /// plane may be loaded now, or none.
    pub fn lock_again(&mut self, access: Access) -> Result<bool> {
        // The lock that a process has is changed, not waited for.
        self.lock = None;
        self.lock = Some(lock(&self.root, &self.point, &self.name, access)?);
        Ok(identity(&self.path()) == self.identity)
    }

    /// Lets other commands go on. What is open stays open, and may be changed by them.
    pub fn unlock(&mut self) {
        self.lock = None;
    }

    /// Whether the lock is held.
    pub fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// Waits for the lock to read, after [`Directory::unlock`], and holds it as long as the answer is kept. What is open may be of a data
    /// plane that is not in its place any more: then nobody changes it.
    pub fn lock_beside(&self) -> Result<Flock<File>> {
        lock(&self.root, &self.point, &self.name, Access::Read)
    }

    /// The file system that it is in.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of another directory of the namespace, which begins with `prefix`.
    pub fn name_of(&self, prefix: &str) -> String {
        self.name.replacen(NAMESPACE, prefix, 1)
    }

    /// The path of another directory of the namespace, whose name begins with `prefix`.
    pub fn other(&self, prefix: &str) -> PathBuf {
        self.sibling(&self.name_of(prefix))
    }

    /// Names of all namespaces' directories that begin with `prefix`.
    pub fn all(&self, prefix: &str) -> Result<Vec<String>> {
        Ok(self.names()?.into_iter().filter(|name| name.starts_with(prefix)).collect())
    }

    /// Where the directory is made before it takes its place, and taken apart after it has left it.
    pub fn draft(&self) -> PathBuf {
        self.other(DRAFT)
    }

    /// Where the next generation is made, and the one before it is removed.
    pub fn next(&self) -> PathBuf {
        self.other(NEXT)
    }

    /// The draft as a directory of pins, under this one's lock.
    pub fn drafted(&self) -> Result<Directory> {
        self.beside(self.name.replacen(NAMESPACE, DRAFT, 1))
    }

    /// The directory of a process's copy, which no lock is needed for.
    pub fn copy(&self, process: u32) -> Result<Directory> {
        self.beside(format!("{}-{process}", self.name.replacen(NAMESPACE, COPY, 1)))
    }

    /// Where the programs are by which a process observes packets.
    pub fn watch(&self, process: u32) -> PathBuf {
        self.sibling(&format!("{}-{process}", self.name_of(WATCH)))
    }

    fn beside(&self, name: String) -> Result<Directory> {
        let root = self.root.try_clone().context("cannot keep the BPF file system open")?;
        Ok(Directory { root, point: self.point.clone(), name, lock: None, identity: self.identity })
    }

    /// Drafts of commands that were killed: nobody has the lock that they are made under. Each comes with that lock, to be held until it
    /// is removed.
    pub fn left_drafts(&self) -> Result<Vec<(PathBuf, Flock<File>)>> {
        let left = |name: String| {
            let lock = name.replacen(DRAFT, NAMESPACE, 1);
            Some((self.sibling(&name), try_lock(&self.sibling(LOCKS).join(lock)).ok()??))
        };
        Ok(self.all(DRAFT)?.into_iter().filter_map(left).collect())
    }

    /// Removes locks that nobody has, of network namespaces without a data plane: of most of them the namespace is gone. Who needs
    /// one makes it again.
    pub fn collect_locks(&self) -> Result<()> {
        let locks = fs::read_dir(self.sibling(LOCKS)).context("cannot read the BPF file system")?;
        for lock in locks.filter_map(|entry| Some(entry.ok()?.path())) {
            let name = lock.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some((_, cookie)) = name.rsplit_once('-') else { continue };
            let is_needed =
                || [NAMESPACE, DRAFT, NEXT].iter().any(|kind| self.sibling(&format!("{kind}{cookie}")).exists());
            if name == self.name || is_needed() {
                continue;
            }
            // Once more under the lock, as it may be needed by now. Removed while it is held: who waits for it finds that out.
            if let Ok(Some(_held)) = try_lock(&lock)
                && !is_needed()
            {
                let _ = fs::remove_dir(&lock);
            }
        }
        Ok(())
    }

    fn names(&self) -> Result<Vec<String>> {
        let entries = fs::read_dir(self.sibling("")).context("cannot read the BPF file system")?;
        Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
    }
}

/// Opens the directory of the calling thread's network namespace, which may not exist yet, and waits for its lock.
pub fn open(access: Access) -> Result<Directory> {
    let point = mount_point();
    let root = mounted(&point)?;
    let name = format!("{NAMESPACE}{}", namespace_cookie()?);
    let lock = lock(&root, &point, &name, access)?;
    Ok(Directory { root, point, name, lock: Some(lock), identity: None })
}

/// What tells a directory from others of its name, before and after it.
fn identity(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|found| found.ino())
}

/// Waits for a directory's lock.
fn lock(root: &File, point: &Path, name: &str, access: Access) -> Result<Flock<File>> {
    // The lock is a directory of its own: the other one is made and removed under it.
    let locks = format!("/proc/self/fd/{}/{LOCKS}", root.as_raw_fd());
    let lock = format!("{locks}/{name}");
    loop {
        for directory in [&locks, &lock] {
            match fs::create_dir(directory) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(error).with_context(|| format!("cannot write to {}", point.display()));
                }
                _ => {}
            }
        }
        let file = match File::open(&lock) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            file => file.context("cannot open the lock")?,
        };
        let locked = locked(file, access).context("cannot lock")?;
        // Nobody had it, so a command of another namespace may have removed it meanwhile.
        if locked.metadata().ok().map(|it| it.ino()) == identity(Path::new(&lock)) {
            return Ok(locked);
        }
    }
}

/// Takes a lock of the calling thread's network namespace beside that of its directory, if nobody has it.
pub fn claim(what: &str) -> Result<Option<Flock<File>>> {
    let root = mounted(&mount_point())?;
    let path = format!("/proc/self/fd/{}/{LOCKS}/{what}-{}", root.as_raw_fd(), namespace_cookie()?);
    try_lock(Path::new(&path))
}

/// Takes a lock if nobody has it.
fn try_lock(path: &Path) -> Result<Option<Flock<File>>> {
    loop {
        fs::create_dir_all(path).context("cannot write to the BPF file system")?;
        let file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            file => file.context("cannot open a lock")?,
        };
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            // As in `lock`.
            Ok(lock) if lock.metadata().ok().map(|it| it.ino()) != identity(path) => {}
            Ok(lock) => return Ok(Some(lock)),
            Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, error)) => return Err(error).context("cannot lock"),
        }
    }
}

/// Waits for the lock, whatever signals come meanwhile: a program that lvs-compat is loaded into may handle some.
fn locked(mut file: File, access: Access) -> Result<Flock<File>, Errno> {
    let how = match access {
        Access::Read => FlockArg::LockShared,
        Access::Change => FlockArg::LockExclusive,
    };
    loop {
        match Flock::lock(file, how) {
            Ok(lock) => return Ok(lock),
            Err((same, Errno::EINTR)) => file = same,
            Err((_, error)) => return Err(error),
        }
    }
}

/// Where the file system is mounted.
fn mount_point() -> PathBuf {
    std::env::var_os(MOUNT_POINT_VARIABLE).map_or_else(|| PathBuf::from(MOUNT_POINT), PathBuf::from)
}

/// The mounted file system's root directory.
fn mounted(point: &Path) -> Result<File> {
    if let Some(root) = existing(point) {
        return Ok(root);
    }
    // Not visible here. What is mounted in the initial mount namespace is visible to every process that comes later.
    let own = File::open("/proc/self/ns/mnt").context("cannot open the mount namespace")?;
    let initial = outermost()?;
    if same(own.as_fd(), initial.as_fd())? {
        return make(point);
    }
    visit(&initial, || existing(point).map_or_else(|| make(point), Ok))?
}

/// Does something in the initial mount namespace, or in the outermost one that this process may enter.
pub fn outside<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    visit(&outermost()?, work)
}

/// Does something in a mount namespace. On a thread with a root and a working directory of its own, so that this process keeps its own:
/// to enter a mount namespace is to take its root, which a process in a chroot could not find back from.
fn visit<T: Send>(namespace: &File, work: impl FnOnce() -> T + Send) -> Result<T> {
    let visit = || {
        unshare(CloneFlags::CLONE_FS).context("cannot leave the working directory")?;
        setns(namespace, CloneFlags::CLONE_NEWNS).context("cannot enter the initial mount namespace")?;
        Ok(work())
    };
    thread::scope(|scope| scope.spawn(visit).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The mount namespace of init or, where this process may not look at that, of its farthest ancestor that it may.
fn outermost() -> Result<File> {
    let mut ancestors = vec!["self".to_owned()];
    let mut process = "self".to_owned();
    while let Some(parent) = parent_of(&process) {
        ancestors.push(parent.clone());
        process = parent;
    }
    ancestors
        .iter()
        .rev()
        .find_map(|process| File::open(format!("/proc/{process}/ns/mnt")).ok())
        .context("cannot open the initial mount namespace")
}

/// The parent of a process, `None` for init.
fn parent_of(process: &str) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // Behind the name in parentheses, which may hold anything: state and parent.
    let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?;
    (parent != "0").then(|| parent.to_owned())
}

fn same(a: BorrowedFd<'_>, b: BorrowedFd<'_>) -> Result<bool> {
    let (a, b) = (nix::sys::stat::fstat(a)?, nix::sys::stat::fstat(b)?);
    Ok((a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
}

/// The root if a BPF file system is mounted at `point`.
fn existing(point: &Path) -> Option<File> {
    let is_bpf = statfs(point).is_ok_and(|s| s.filesystem_type() == BPF_FS_MAGIC);
    is_bpf.then(|| File::open(point).ok()).flatten()
}

/// Mounts it. Of commands that do so at once the first one does: a file system over another one would hide what that holds.
fn make(point: &Path) -> Result<File> {
    fs::create_dir_all(point).with_context(|| {
        format!("cannot create {}, so set {MOUNT_POINT_VARIABLE} to a directory that can be", point.display())
    })?;
    let beneath = File::open(point).with_context(|| format!("cannot open {}", point.display()))?;
    let _lock = locked(beneath, Access::Change).context("cannot lock the mount point")?;
    if let Some(root) = existing(point) {
        return Ok(root);
    }
    let none: Option<&str> = None;
    mount(Some("lvs"), point, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
        .or_else(|_| mount(Some("lvs"), point, Some("bpf"), MsFlags::empty(), none))
        .with_context(|| format!("cannot mount a BPF file system at {}", point.display()))?;
    File::open(point).with_context(|| format!("cannot open {}", point.display()))
}

/// The cookie of the calling thread's network namespace.
pub fn namespace_cookie() -> Result<u64> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut cookie = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes a u64 at most.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if status != 0 {
        return unfit("the kernel does not tell the network namespace's cookie: Linux 5.14 is needed");
    }
    Ok(cookie)
}
