//! The next functions of the same names: those that the program would have called without this library.

use std::ffi::{CStr, c_int, c_void};
use std::mem::transmute;
use std::sync::atomic::{AtomicPtr, Ordering};

use nix::libc::{self, socklen_t};

/// `getsockopt`'s type.
type Get = unsafe extern "C" fn(c_int, c_int, c_int, *mut c_void, *mut socklen_t) -> c_int;
/// `setsockopt`'s type.
type Set = unsafe extern "C" fn(c_int, c_int, c_int, *const c_void, socklen_t) -> c_int;

/// The next symbol of the same name, looked up once. Threads that come at once find the same.
struct Symbol {
    name: &'static CStr,
    address: AtomicPtr<c_void>,
}

impl Symbol {
    const fn new(name: &'static CStr) -> Self {
        Symbol { name, address: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// Its address; null if no later library has it.
    fn find(&self) -> *mut c_void {
        let mut address = self.address.load(Ordering::Relaxed);
        if address.is_null() {
            // SAFETY: the name ends in 0.
            address = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
            self.address.store(address, Ordering::Relaxed);
        }
        address
    }
}

/// The next `getsockopt`.
///
/// # Safety
///
/// As the C library's.
pub unsafe fn getsockopt(
    socket: c_int,
    level: c_int,
    option: c_int,
    value: *mut c_void,
    length: *mut socklen_t,
) -> c_int {
    static NEXT: Symbol = Symbol::new(c"getsockopt");
    let address = NEXT.find();
    if address.is_null() {
        return missing();
    }
    // SAFETY: a function of that name is of that type; the arguments are the caller's.
    unsafe { transmute::<*mut c_void, Get>(address)(socket, level, option, value, length) }
}

/// The next `setsockopt`.
///
/// # Safety
///
/// As the C library's.
pub unsafe fn setsockopt(socket: c_int, level: c_int, option: c_int, value: *const c_void, length: socklen_t) -> c_int {
    static NEXT: Symbol = Symbol::new(c"setsockopt");
    let address = NEXT.find();
    if address.is_null() {
        return missing();
    }
    // SAFETY: as above.
    unsafe { transmute::<*mut c_void, Set>(address)(socket, level, option, value, length) }
}

/// The answer of a function that is not there.
fn missing() -> c_int {
    nix::errno::Errno::ENOSYS.set();
    -1
}
