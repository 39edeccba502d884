//! Names of hosts and ports: the system's, and never a listing that hangs on them.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{SockaddrLike, SockaddrStorage};

use lvs_director::rules::Protocol;

/// Where names come from.
pub trait Names {
    /// The IPv4 address of a host.
    fn address(&mut self, host: &str) -> Option<Ipv4Addr>;

    /// The port of a service (`/etc/services`).
    fn port(&mut self, service: &str, protocol: Protocol) -> Option<u16>;

    /// The name of the host that has an address.
    fn host(&mut self, address: IpAddr) -> Option<String>;

    /// The name of the service that has a port.
    fn service(&mut self, port: u16, protocol: Protocol) -> Option<String>;
}

/// No name is known: for tests and searches, which ask no resolver.
pub struct NoNames;

impl Names for NoNames {
    fn address(&mut self, _: &str) -> Option<Ipv4Addr> {
        None
    }

    fn port(&mut self, _: &str, _: Protocol) -> Option<u16> {
        None
    }

    fn host(&mut self, _: IpAddr) -> Option<String> {
        None
    }

    fn service(&mut self, _: u16, _: Protocol) -> Option<String> {
        None
    }
}

/// How long one invocation waits for names of hosts altogether. Then the rest of a listing shows addresses.
const PATIENCE: Duration = Duration::from_secs(5);

/// The system's names, each asked for once: a file of rules may have one in every line, and nobody to answer.
#[derive(Default)]
pub struct SystemNames {
    addresses: HashMap<String, Option<Ipv4Addr>>,
    hosts: HashMap<IpAddr, Option<String>>,
    services: HashMap<(u16, Protocol), Option<String>>,
    resolver: Option<Resolver>,
}

/// A thread that asks, so that the listing need not wait for it. It ends with the process.
struct Resolver {
    ask: Sender<IpAddr>,
    answers: Receiver<Option<String>>,
    /// What is left of [`PATIENCE`]; once it is used up, nothing more is asked.
    patience: Duration,
}

impl Resolver {
    fn start() -> Self {
        let (ask, asked) = channel();
        let (answer, answers) = channel();
        thread::spawn(move || {
            for address in asked {
                if answer.send(host_name(address)).is_err() {
                    return;
                }
            }
        });
        Resolver { ask, answers, patience: PATIENCE }
    }

    fn host(&mut self, address: IpAddr) -> Option<String> {
        if self.patience.is_zero() {
            return None;
        }
        let start = Instant::now();
        self.ask.send(address).ok()?;
        let answer = self.answers.recv_timeout(self.patience);
        self.patience = match answer {
            Ok(_) => self.patience.saturating_sub(start.elapsed()),
            // The answer may still come, and would then be taken for the next one's.
            Err(_) => Duration::ZERO,
        };
        answer.ok().flatten()
    }
}

impl Names for SystemNames {
    fn address(&mut self, host: &str) -> Option<Ipv4Addr> {
        match self.addresses.get(host) {
            Some(known) => *known,
            None => *self.addresses.entry(host.to_owned()).or_insert_with(|| host_address(host)),
        }
    }

    fn port(&mut self, service: &str, protocol: Protocol) -> Option<u16> {
        let (service, protocol) = (CString::new(service).ok()?, CString::new(protocol.name()).ok()?);
        // SAFETY: both are strings that end in 0, and the entry is read before the next call could change it.
        unsafe {
            let entry = libc::getservbyname(service.as_ptr(), protocol.as_ptr()).as_ref()?;
            Some(u16::from_be(entry.s_port as u16))
        }
    }

    fn host(&mut self, address: IpAddr) -> Option<String> {
        let resolver = &mut self.resolver;
        self.hosts.entry(address).or_insert_with(|| resolver.get_or_insert_with(Resolver::start).host(address)).clone()
    }

    fn service(&mut self, port: u16, protocol: Protocol) -> Option<String> {
        self.services.entry((port, protocol)).or_insert_with(|| service_name(port, protocol)).clone()
    }
}

/// Asks the system for the IPv4 address of a host.
fn host_address(host: &str) -> Option<Ipv4Addr> {
    if host.is_empty() {
        return None;
    }
    (host, 0).to_socket_addrs().ok()?.find_map(|address| match address.ip() {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(_) => None,
    })
}

/// Asks the system for the name of a port.
fn service_name(port: u16, protocol: Protocol) -> Option<String> {
    let protocol = CString::new(protocol.name()).ok()?;
    // SAFETY: the protocol ends in 0, and the entry and its name are read before the next call could change them.
    unsafe {
        let entry = libc::getservbyport(libc::c_int::from(port.to_be()), protocol.as_ptr()).as_ref()?;
        Some(CStr::from_ptr(entry.s_name).to_string_lossy().into_owned())
    }
}

/// Asks the system for the name of a host.
fn host_name(address: IpAddr) -> Option<String> {
    let address = SockaddrStorage::from(SocketAddr::new(address, 0));
    let mut name = [0 as libc::c_char; libc::NI_MAXHOST as usize];
    // SAFETY: address and name are as long as said, and no name of a service is asked for.
    let result = unsafe {
        libc::getnameinfo(
            address.as_ptr(),
            address.len(),
            name.as_mut_ptr(),
            libc::NI_MAXHOST,
            std::ptr::null_mut(),
            0,
            libc::NI_NAMEREQD,
        )
    };
    // SAFETY: on success there is a string that ends in 0.
    (result == 0).then(|| unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned())
}
