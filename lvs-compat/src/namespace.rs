//! Where a socket option's work is done: on a thread in the socket's network namespace, without the caller's priority.
//!
//! The namespace may be another than the calling thread's: keepalived opens its socket in the namespace that
//! `net_namespace_ipvs` names, and goes back. Its process for VRRP may have real-time priority (`vrrp_rt_priority`), and the
//! kernel kills it if it then works for 10 ms at a stretch (`RLIMIT_RTTIME`). The kernel's IPVS would not take as long, but to
//! load a data plane does.

use std::fs::File;
use std::io::{self, Error};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::thread;

use nix::libc;
use nix::sched::{CloneFlags, setns};

/// The `ioctl` for the network namespace of a socket. It takes `CAP_NET_ADMIN` in it, which is what IPVS asks for too.
const SIOCGSKNS: libc::c_ulong = 0x894c;

/// Does `work` on a thread in the socket's namespace. `EPERM` for who may not administer it.
pub fn within<T: Send>(socket: RawFd, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let namespace = of(socket)?;
    let visit = || {
        leave_real_time()?;
        // Who is there already may lack the right to enter it.
        if !same(&namespace, &File::open("/proc/thread-self/ns/net")?)? {
            setns(&namespace, CloneFlags::CLONE_NEWNET)?;
        }
        work()
    };
    thread::scope(|scope| {
        let visitor = thread::Builder::new().spawn_scoped(scope, visit)?;
        visitor.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Gives this thread the ordinary scheduling policy if it has a real-time one.
fn leave_real_time() -> io::Result<()> {
    // SAFETY: plain system calls about the calling thread; the parameter outlives the second one.
    let status = unsafe {
        match libc::sched_getscheduler(0) & !libc::SCHED_RESET_ON_FORK {
            libc::SCHED_FIFO | libc::SCHED_RR => {
                libc::sched_setscheduler(0, libc::SCHED_OTHER, &libc::sched_param { sched_priority: 0 })
            }
            _ => 0,
        }
    };
    if status < 0 { Err(Error::last_os_error()) } else { Ok(()) }
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
