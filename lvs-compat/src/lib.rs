//! A preload library that answers IPVS's socket options out of lvsadm's director, so that programs which speak to the
//! kernel's IPVS (Debian's ipvsadm, keepalived) drive the eBPF data plane unmodified:
//!
//! ```text
//! LD_PRELOAD=liblvs_compat.so keepalived --dont-fork
//! ```
//!
//! Both look for IPVS's netlink family first and, where the kernel has none, speak the older ABI: `getsockopt` and
//! `setsockopt` at level `SOL_IP` of a raw socket, options from 1152 on. This library stands before these two functions.
//! Every call goes to the next one, so to the kernel, first; only if that does not know the option ([`abi`]), as no kernel
//! without IPVS does, is it answered here. So a kernel that has IPVS keeps it.
//!
//! Nothing is kept between calls: each opens the data plane as an `lvsadm` command does (the first loads and attaches
//! it), under the lock of its directory, and lets go. So threads, forks and other programs cannot come in between, and
//! `lvsadm` works beside it. The ABI is IPv4's alone, has ipip tunnels only, and cuts packet counts to 32 bits.

// A test's own calls must not come here.
#![cfg_attr(test, allow(dead_code, reason = "the exported functions are not for tests"))]

mod abi;
mod answer;
mod convert;
mod namespace;
mod next;

use std::env;
use std::ffi::{c_int, c_void};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::ptr;

use lvs_director::dataplane::{self, PlaneDirector};
use lvs_director::director::{Access, Room};
use nix::errno::Errno;
use nix::libc::{self, socklen_t};

use abi::{Get, Set};

/// The C library's `getsockopt`, with IPVS's options.
///
/// # Safety
///
/// `value` points to `*length` bytes that may be written.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn getsockopt(
    socket: c_int,
    level: c_int,
    option: c_int,
    value: *mut c_void,
    length: *mut socklen_t,
) -> c_int {
    let before = Errno::last_raw();
    // SAFETY: the caller's arguments.
    let status = unsafe { next::getsockopt(socket, level, option, value, length) };
    if !is_ours(socket, level, option, status) {
        return status;
    }
    let Some(what) = Get::of(option) else { return fail(Errno::EINVAL) };
    if value.is_null() || length.is_null() {
        return fail(Errno::EFAULT);
    }
    // SAFETY: the caller's pointer, which need not be aligned.
    let space = unsafe { length.read_unaligned() } as usize;
    let mut argument = vec![0u8; space.min(what.least())];
    // SAFETY: the caller's buffer is `space` bytes long.
    unsafe { ptr::copy_nonoverlapping(value.cast(), argument.as_mut_ptr(), argument.len()) }
    match ask(socket, Access::Read, |director| answer::get(director, what, space, &argument)) {
        Ok(answer) => {
            // SAFETY: as above; an answer is never longer than the space that `answer::get` was told.
            unsafe { ptr::copy_nonoverlapping(answer.as_ptr(), value.cast(), answer.len().min(space)) }
            if what == Get::Version {
                // SAFETY: as above.
                unsafe { length.write_unaligned(answer.len() as socklen_t) }
            }
            succeed(before)
        }
        Err(number) => fail(number),
    }
}

/// The C library's `setsockopt`, with IPVS's options.
///
/// # Safety
///
/// `value` points to `length` bytes.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn setsockopt(
    socket: c_int,
    level: c_int,
    option: c_int,
    value: *const c_void,
    length: socklen_t,
) -> c_int {
    let before = Errno::last_raw();
    // SAFETY: the caller's arguments.
    let status = unsafe { next::setsockopt(socket, level, option, value, length) };
    if !is_ours(socket, level, option, status) {
        return status;
    }
    let Some(what) = Set::of(option) else { return fail(Errno::EINVAL) };
    let mut argument = vec![0u8; what.length()];
    if length as usize != argument.len() {
        return fail(Errno::EINVAL);
    }
    if value.is_null() && !argument.is_empty() {
        return fail(Errno::EFAULT);
    }
    // SAFETY: the caller's argument is as long as that.
    unsafe { ptr::copy_nonoverlapping(value.cast(), argument.as_mut_ptr(), argument.len()) }
    match ask(socket, Access::Change, |director| answer::set(director, what, &argument)) {
        Ok(()) => succeed(before),
        Err(number) => fail(number),
    }
}

/// Whether a call that came to `status` is for IPVS, and the kernel has none.
fn is_ours(socket: c_int, level: c_int, option: c_int, status: c_int) -> bool {
    level == libc::IPPROTO_IP
        && abi::is_option(option)
        && status == -1
        && Errno::last() == Errno::ENOPROTOOPT
        && property(socket, libc::SO_DOMAIN) == Some(libc::AF_INET)
        && property(socket, libc::SO_TYPE) == Some(libc::SOCK_RAW)
}

/// A number that the kernel tells of a socket.
fn property(socket: c_int, option: c_int) -> Option<c_int> {
    let mut value: c_int = 0;
    let mut length = size_of::<c_int>() as socklen_t;
    // SAFETY: value and length are ours.
    let status =
        unsafe { next::getsockopt(socket, libc::SOL_SOCKET, option, (&raw mut value).cast(), &raw mut length) };
    (status == 0).then_some(value)
}

/// The success of a call, which leaves the last failure's reason alone.
fn succeed(before: i32) -> c_int {
    Errno::set_raw(before);
    0
}

/// The failure of a call, with the reason where the C library leaves it.
fn fail(number: Errno) -> c_int {
    number.set();
    -1
}

/// Asks the director of the socket's network namespace. A data plane that cannot be had is what a kernel without IPVS
/// answers, `ENOPROTOOPT`, unless the caller lacks the right; why is told on standard error, as no number can.
fn ask<T: Send>(
    socket: c_int,
    access: Access,
    question: impl FnOnce(&mut PlaneDirector) -> Result<T, Errno> + Send,
) -> Result<T, Errno> {
    let visit = || {
        namespace::within(socket, || match dataplane::ready(access, Room::default()) {
            Ok(plane) => Ok(question(&mut PlaneDirector::new(plane).with_program(lvsadm()))),
            Err(error) => Ok(Err(refused(&error))),
        })
    };
    // A panic must not unwind into the program; the hook has told where it was.
    match catch_unwind(AssertUnwindSafe(visit)) {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => Err(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)),
        Err(_) => Err(Errno::EIO),
    }
}

/// The program that runs the daemons of connection synchronisation.
fn lvsadm() -> PathBuf {
    env::var_os("LVSADM").map_or_else(|| PathBuf::from("/usr/sbin/lvsadm"), PathBuf::from)
}

/// The number for a data plane that cannot be had.
fn refused(error: &dataplane::Error) -> Errno {
    if matches!(error.number(), Some(libc::EPERM | libc::EACCES)) {
        return Errno::EPERM;
    }
    // A program that closed its standard error loses the line.
    let _ = writeln!(io::stderr(), "lvs-compat: {}", error.line());
    Errno::ENOPROTOOPT
}
