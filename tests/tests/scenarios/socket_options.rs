//! `lvs-compat`'s two functions called directly, as no tool would: from many threads, from a fork, on a socket of another
//! namespace, on sockets that are none of its business.

use std::ffi::{CString, c_int, c_void};
use std::mem::transmute;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::LazyLock;
use std::thread;

use anyhow::{Result, ensure};
use nix::errno::Errno;
use nix::libc;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use tests::is_without_ipvs;
use tests::topology::{Namespace, lvs_compat_path};

const ADD: c_int = 1154;
const GET_INFO: c_int = 1153;

type Get = unsafe extern "C" fn(c_int, c_int, c_int, *mut c_void, *mut libc::socklen_t) -> c_int;
type Set = unsafe extern "C" fn(c_int, c_int, c_int, *const c_void, libc::socklen_t) -> c_int;

/// The library's own functions.
struct Library {
    get: Get,
    set: Set,
}

static LIBRARY: LazyLock<Library> = LazyLock::new(|| {
    let path = CString::new(lvs_compat_path().as_os_str().as_bytes()).unwrap();
    // SAFETY: strings that end in 0, and functions of those names are of those types.
    unsafe {
        let library = libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
        assert!(!library.is_null(), "cannot open {path:?}: run `cargo xtask build`");
        let (get, set) = (libc::dlsym(library, c"getsockopt".as_ptr()), libc::dlsym(library, c"setsockopt".as_ptr()));
        assert!(!get.is_null() && !set.is_null());
        Library { get: transmute::<*mut c_void, Get>(get), set: transmute::<*mut c_void, Set>(set) }
    }
});

impl Library {
    fn get(&self, socket: &impl AsRawFd, level: c_int, option: c_int, buffer: &mut [u8]) -> Result<usize, Errno> {
        let mut length = buffer.len() as libc::socklen_t;
        // SAFETY: buffer and length are as said.
        let status =
            unsafe { (self.get)(socket.as_raw_fd(), level, option, buffer.as_mut_ptr().cast(), &raw mut length) };
        Errno::result(status).map(|_| length as usize)
    }

    fn set(&self, socket: &impl AsRawFd, level: c_int, option: c_int, argument: &[u8]) -> Result<(), Errno> {
        let length = argument.len() as libc::socklen_t;
        // SAFETY: the argument is as long as said.
        let status = unsafe { (self.set)(socket.as_raw_fd(), level, option, argument.as_ptr().cast(), length) };
        Errno::result(status).map(drop)
    }

    /// How many services there are.
    fn services(&self, socket: &impl AsRawFd) -> Result<u32, Errno> {
        let mut info = [0; 12];
        self.get(socket, libc::IPPROTO_IP, GET_INFO, &mut info)?;
        Ok(u32::from_ne_bytes([info[8], info[9], info[10], info[11]]))
    }

    /// Adds a service on a port.
    fn add(&self, socket: &impl AsRawFd, port: u16) -> Result<(), Errno> {
        let [high, low] = port.to_be_bytes();
        let mut argument = [0; 44];
        argument[..2].copy_from_slice(&6u16.to_ne_bytes());
        argument[4..10].copy_from_slice(&[192, 0, 2, 1, high, low]);
        argument[16..18].copy_from_slice(b"rr");
        self.set(socket, libc::IPPROTO_IP, ADD, &argument)
    }
}

/// A socket as the tools open it.
fn raw_socket() -> Result<OwnedFd> {
    // SAFETY: a plain call, whose descriptor is new.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_RAW) };
    ensure!(socket >= 0, "cannot open a raw socket: {}", Errno::last());
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

#[test]
fn threads_and_forks_come_at_once() {
    if !is_without_ipvs() {
        return;
    }
    const THREADS: u16 = 4;
    const EACH: u16 = 10;
    let director = Namespace::new("director").unwrap();
    director.lvsadm("-C").unwrap();
    let add = |first: u16| {
        director.enter(|| {
            let socket = raw_socket()?;
            for port in first..first + EACH {
                LIBRARY.add(&socket, port)?;
            }
            Ok(())
        })
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|n| scope.spawn(move || add(1 + n * EACH).unwrap())).collect();
        // Forked while the threads are within calls.
        director
            .enter(|| {
                let socket = raw_socket()?;
                for port in 1000..1000 + EACH {
                    // SAFETY: the child calls the library, which is what is tested, and ends without going back.
                    match unsafe { fork()? } {
                        ForkResult::Child => {
                            let status = LIBRARY.add(&socket, port).map_or_else(|number| number as i32, |()| 0);
                            // SAFETY: it never returns.
                            unsafe { libc::_exit(status) }
                        }
                        ForkResult::Parent { child } => assert_eq!(waitpid(child, None)?, WaitStatus::Exited(child, 0)),
                    }
                }
                Ok(())
            })
            .unwrap();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    let listed = director.lvsadm("-Ln").unwrap().lines().filter(|line| line.starts_with("TCP")).count();
    assert_eq!(listed, usize::from((THREADS + 1) * EACH));
}

#[test]
fn the_sockets_namespace_is_what_counts() {
    if !is_without_ipvs() {
        return;
    }
    let (director, other) = (Namespace::new("director").unwrap(), Namespace::new("other").unwrap());
    director.lvsadm("-C").unwrap();
    let socket = director.enter(raw_socket).unwrap();
    other.enter(|| Ok(LIBRARY.add(&socket, 80)?)).unwrap();
    assert!(director.lvsadm("-Ln").unwrap().contains("192.0.2.1:80"));
    assert_eq!(other.enter(|| Ok(LIBRARY.services(&socket)?)).unwrap(), 1);
    // Nothing was loaded where the call came from.
    assert!(other.lvsadm("status").is_err());
}

#[test]
fn other_options_and_sockets_go_to_the_kernel() {
    if !is_without_ipvs() {
        return;
    }
    let director = Namespace::new("director").unwrap();
    director
        .enter(|| {
            let raw = raw_socket()?;
            LIBRARY.set(&raw, libc::IPPROTO_IP, libc::IP_TTL, &7i32.to_ne_bytes())?;
            let mut value = [0; 4];
            assert_eq!(LIBRARY.get(&raw, libc::IPPROTO_IP, libc::IP_TTL, &mut value)?, 4);
            assert_eq!(i32::from_ne_bytes(value), 7);
            let unknown = LIBRARY.get(&raw, libc::IPPROTO_IP, GET_INFO - 2, &mut [0; 12]);
            assert_eq!(unknown, Err(Errno::ENOPROTOOPT));
            assert_eq!(LIBRARY.services(&TcpListener::bind("127.0.0.1:0")?), Err(Errno::ENOPROTOOPT));
            assert_eq!(LIBRARY.services(&UdpSocket::bind("[::1]:0")?), Err(Errno::ENOPROTOOPT));
            Ok(())
        })
        .unwrap();
    assert!(director.lvsadm("status").is_err(), "none of them loads anything");
}
