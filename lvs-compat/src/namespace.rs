//! The network namespace of a socket, which may be another than the calling thread's: keepalived opens its socket in the
//! namespace that `net_namespace_ipvs` names, and goes back.

use std::fs::File;
use std::io::{self, Error};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::thread;

use nix::libc;
use nix::sched::{CloneFlags, setns};

/// The `ioctl` for the network namespace of a socket. It takes `CAP_NET_ADMIN` in it, which is what IPVS asks for too.
const SIOCGSKNS: libc::c_ulong = 0x894c;

/// Does `work` on a thread in the socket's namespace: on this one if it is there. `EPERM` for who may not administer it.
pub fn within<T: Send>(socket: RawFd, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let namespace = of(socket)?;
    if same(&namespace, &File::open("/proc/thread-self/ns/net")?)? {
        return work();
    }
    let visit = || {
        setns(&namespace, CloneFlags::CLONE_NEWNET)?;
        work()
    };
    thread::scope(|scope| {
        let visitor = thread::Builder::new().spawn_scoped(scope, visit)?;
        visitor.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The namespace of a socket.
fn of(socket: RawFd) -> io::Result<File> {
    // SAFETY: the request has no argument.
    let namespace = unsafe { libc::ioctl(socket, SIOCGSKNS as _) };
    if namespace < 0 {
        return Err(Error::last_os_error());
    }
    // SAFETY: a descriptor that the kernel just made for us.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(namespace) }))
}

fn same(one: &File, other: &File) -> io::Result<bool> {
    let (one, other) = (one.metadata()?, other.metadata()?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}
