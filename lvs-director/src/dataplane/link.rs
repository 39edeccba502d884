//! What aya does not do with a pinned link: tell what it is attached to, replace its program, and detach it at once.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::syscall;

const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_LINK_DETACH: libc::c_long = 34;

/// `struct bpf_link_info` as far as it is read; what it is attached to comes first in the union: of XDP and TC links the
/// device, of a network namespace's its inode number, of a control group's the lower half of its number.
#[repr(C)]
#[derive(Default)]
struct Info {
    kind: u32,
    id: u32,
    program: u32,
    pad: u32,
    target: u32,
    rest: [u32; 11],
}

/// The part of `union bpf_attr` for these commands.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    /// A path's address, or a descriptor and a length.
    first: u64,
    /// A descriptor and flags, or an address.
    second: u64,
}

fn bpf(command: libc::c_long, attributes: &mut Attributes) -> Option<i32> {
    // SAFETY: the callers' attributes are what the command takes, their addresses outlive the call.
    unsafe { syscall::bpf(command, attributes) }.ok()
}

/// Number of the device, network namespace or control group that the link pinned at `path` is attached to; 0 if that is
/// gone, `None` if there is no such link.
pub fn target(path: &Path) -> Option<u32> {
    info(path).map(|info| info.target)
}

/// Number of the program of the link pinned at `path`, `None` if there is no such link.
pub fn program(path: &Path) -> Option<u32> {
    info(path).map(|info| info.program)
}

fn info(path: &Path) -> Option<Info> {
    let link = open(path)?;
    let mut info = Info::default();
    let mut attributes = Attributes {
        first: link.as_raw_fd() as u64 | (size_of::<Info>() as u64) << 32,
        second: (&raw mut info) as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes)?;
    Some(info)
}

/// Pins what is pinned at `path`, a map, a program or a link, at `other` as well.
pub fn pin_again(path: &Path, other: &Path) -> io::Result<()> {
    let object = open(path).ok_or(io::ErrorKind::NotFound)?;
    let name = CString::new(other.as_os_str().as_bytes())?;
    let mut attributes = Attributes { first: name.as_ptr() as u64, second: object.as_raw_fd() as u64 };
    // SAFETY: the command takes a path and a descriptor, which outlive the call.
    unsafe { syscall::bpf(BPF_OBJ_PIN, &mut attributes) }.map(drop)
}

/// Puts another program of the same type into the place of that of the link pinned at `path`, in one step.
pub fn update(path: &Path, program: i32) -> io::Result<()> {
    let link = open(path).ok_or(io::ErrorKind::NotFound)?;
    let first = link.as_raw_fd() as u64 | (program as u64) << 32;
    // SAFETY: the command takes two descriptors and flags.
    unsafe { syscall::bpf(BPF_LINK_UPDATE, &mut Attributes { first, second: 0 }) }.map(drop)
}

/// Detaches the link pinned at `path` from its device, if there is such a link. Removing its pin does that as well, but
/// some time later: until then the device's place for XDP is taken.
pub fn detach(path: &Path) {
    if let Some(link) = open(path) {
        // One whose device is gone is detached already.
        let _ = bpf(BPF_LINK_DETACH, &mut Attributes { first: link.as_raw_fd() as u64, second: 0 });
    }
}

/// What is pinned at `path`.
fn open(path: &Path) -> Option<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let fd = bpf(BPF_OBJ_GET, &mut Attributes { first: path.as_ptr() as u64, second: 0 })?;
    // SAFETY: a descriptor the kernel has just given.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}
